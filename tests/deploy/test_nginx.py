"""The nginx example, run: a real nginx with it in front of a real server."""

from __future__ import annotations

import json
import os
import re
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from socket import create_connection
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.hosts.machines import until
from tests.serving.conftest import missing
from tests.serving.desk import make_people, token_in
from tests.serving.server import PASSWORD, ROOT, RunningServer, free_port, manage, serving

pytestmark = [pytest.mark.timeout(240), pytest.mark.processes]

NAME = "desk.example.org"
MAIN = """
daemon off;
worker_processes 1;
pid {work}/nginx.pid;
error_log {work}/error.log warn;
events {{ worker_connections 64; }}
http {{
    client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi; scgi_temp_path {work}/scgi;
    include {work}/clm.conf;
}}
"""
LINK = """
from django.contrib.auth.models import User
from clm_site.signin import make_link
print(make_link(User.objects.get()))
"""


class Proxy:
    """A running nginx."""

    def __init__(self, work: Path, server: RunningServer, port: int) -> None:
        self.work = work
        self.server = server
        self.port = port
        self.trusted = ssl.create_default_context(cafile=str(work / "tls.crt"))

    def browser(self) -> httpx.Client:
        """Return a browser that knows the desk by its name."""
        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.port}",
            headers={"Host": self.host},
            verify=self.trusted,
            timeout=30,
        )

    @property
    def host(self) -> str:
        """The name with its port, as a browser sends it."""
        return f"{NAME}:{self.port}"

    @property
    def log(self) -> str:
        """What nginx has written of its requests."""
        return (self.work / "clm.log").read_text()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        missing("Needs nginx: it is not installed", "CLM_REQUIRE_NGINX")
    work, data = tmp_path_factory.mktemp("nginx"), tmp_path_factory.mktemp("data")
    port, plain, behind = free_port(), free_port(), free_port()
    certificate(work)
    (work / "clm.conf").write_text(example(work, port=port, plain=plain, behind=behind))
    (work / "nginx.conf").write_text(MAIN.format(work=work))
    command = [str(nginx), "-c", str(work / "nginx.conf"), "-p", str(work), "-e", str(work / "error.log")]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr.replace('the "user" directive', "")
    web = {
        "CLM_HTTPS": "1",
        "CLM_ALLOWED_HOSTS": f"{NAME},127.0.0.1",
        "CLM_TRUSTED_ORIGINS": f"https://{NAME}:{port}",
        "CLM_OPEN_LOOPBACK": "0",
    }
    with serving(data, port=behind, **web) as server:
        make_people(server, bob="approver")
        process = subprocess.Popen(command)
        try:
            one = Proxy(work, server, port)
            wait_for(one)
            yield one
        finally:
            process.terminate()
            process.wait(10)


def example(work: Path, *, port: int, plain: int, behind: int) -> str:
    """Return deploy/nginx.conf with this test's addresses and files, and nothing else changed."""
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    for old, new, times in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;", 1),
        ("listen 80;", f"listen 127.0.0.1:{plain};", 1),
        ("/etc/nginx/tls/", f"{work}/", 2),
        ("/var/log/nginx/", f"{work}/", 2),
        ("server web1:8000", f"server 127.0.0.1:{behind}", 1),
    ):
        assert text.count(old) == times, old
        text = text.replace(old, new)
    # The other server is down.
    return text.replace("server web2:8000", f"server 127.0.0.1:{free_port()}")


def certificate(work: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    names = x509.SubjectAlternativeName([x509.DNSName(NAME), x509.IPAddress(ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    (work / "tls.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (work / "tls.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def wait_for(proxy: Proxy) -> None:
    until = time.monotonic() + 20
    with proxy.browser() as browser:
        while True:
            try:
                assert browser.get("/healthz").status_code == 200
            except httpx.HTTPError:
                assert time.monotonic() < until, (proxy.work / "error.log").read_text()
                time.sleep(0.05)
            else:
                return


def sign_in(browser: httpx.Client, proxy: Proxy) -> httpx.Response:
    page = browser.get("/sign-in/")
    form = {"username": "bob", "password": PASSWORD, "csrfmiddlewaretoken": token_in(page.text)}
    origin = f"https://{proxy.host}"
    return browser.post("/sign-in/", data=form, headers={"Origin": origin, "Referer": f"{origin}/sign-in/"})


def test_people_sign_in_and_hear_of_news_through_nginx(proxy: Proxy) -> None:
    with proxy.browser() as browser:
        answer = sign_in(browser, proxy)
        assert answer.status_code == 302, answer.text
        cookies = answer.headers.get_list("set-cookie")
        assert all("Secure" in cookie for cookie in cookies)
        assert len(cookies) == 2
        page = browser.get("/approvals/")
        assert page.status_code == 200
        style = re.search(r'href="(/static/css/[^"]+)"', page.text)
        assert style
        assert browser.get(style[1]).status_code == 200
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        with open_socket(proxy, Cookie=cookie, Origin=f"https://{proxy.host}") as socket:
            assert json.loads(socket.recv(timeout=30))
            started = manage("start_session", "checkout is slow", "--environment", "dev", env=proxy.server.env)
            assert started.returncode == 0, started.stderr
            heard = listen(socket, 20)
        assert heard


def open_socket(proxy: Proxy, **headers: str) -> ClientConnection:
    """Open the queue's socket by the desk's name, which no name server knows."""
    return connect(
        f"wss://{proxy.host}/ws/queue/",
        sock=create_connection(("127.0.0.1", proxy.port)),
        ssl=proxy.trusted,
        additional_headers=headers,
        open_timeout=30,
    )


def listen(socket: ClientConnection, seconds: float) -> list[Any]:
    """Return what a socket hears until it tells of news."""
    heard: list[Any] = []
    until = time.monotonic() + seconds
    while not heard or not heard[-1].get("news"):
        heard.append(json.loads(socket.recv(timeout=max(0.01, until - time.monotonic()))))
    return heard


def test_a_socket_from_another_site_is_refused_through_nginx_too(proxy: Proxy) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        open_socket(proxy, Origin="https://elsewhere.example.org")


def test_a_sign_in_link_works_and_is_in_no_log(proxy: Proxy) -> None:
    made = manage("shell", "--no-imports", "--verbosity", "0", "-c", LINK, env=proxy.server.env)
    link = made.stdout.strip()
    assert link.startswith("/sign-in/"), made.stderr
    token = link.rstrip("/").rpartition("/")[2]
    with proxy.browser() as browser:
        assert browser.get(link).status_code == 200
        browser.get("/approvals/", params={"token": token}, headers={"Referer": f"https://{proxy.host}{link}"})
    assert "GET /sign-in/- 200" in proxy.log
    # nginx writes the line when the answer has gone out.
    until(lambda: "GET /approvals/ " in proxy.log, lambda: proxy.log, seconds=10)
    assert token not in proxy.log


def test_what_claims_to_have_come_by_https_does_not_get_past_nginx(proxy: Proxy) -> None:
    """nginx writes the header itself: a form from an origin that is not the desk's stays refused."""
    with proxy.browser() as browser:
        page = browser.get("/sign-in/", headers={"X-Forwarded-Proto": "http"})
        form = {"username": "bob", "password": PASSWORD, "csrfmiddlewaretoken": token_in(page.text)}
        refused = browser.post("/sign-in/", data=form, headers={"Origin": "https://elsewhere.example.org"})
        assert refused.status_code == 403
        assert page.headers["strict-transport-security"]


def test_plain_http_is_sent_on_to_https(proxy: Proxy) -> None:
    plain = re.search(r"listen 127\.0\.0\.1:(\d+);", (proxy.work / "clm.conf").read_text())
    assert plain
    answer = httpx.get(f"http://127.0.0.1:{plain[1]}/approvals/?tab=all", headers={"Host": NAME})
    assert answer.status_code == 301
    assert answer.headers["location"] == f"https://{NAME}/approvals/?tab=all"
