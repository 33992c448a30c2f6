"""Several hosts on one machine: network namespaces with a cable each, which can be pulled."""
