"""Names of request fields in which a proxy makes claims about its client. Pure.

Applications believe these fields: they take the client's address, the scheme, the host, the path
or a verified certificate from them. Only a proxy can know these things, so a field of these names
means something only when a proxy set it. What a client sends under such a name is a forgery, or was
meant for another server; the proxy drops it and, where it knows the same thing, sends its own.

The names come from the documentation of the proxies, clouds and frameworks that write or read them.
A name belongs here when it claims something that this server tells backends itself (the address,
the scheme, the host, the certificate), or that it would have to tell if it were so (a rewritten
path, the sending of a file). Names of an application's own, and who the user is (Remote-User), do
not. Where a site has users of its own (`basic_auth`), its forwarders treat Remote-User like a
claim.

Compare with "-" for "_": CGI and its heirs (WSGI, Rack, PHP) read both alike.
"""

from __future__ import annotations

# Frameworks know more of these than are written down anywhere: -For, -Host, -Proto, -Port, -Prefix,
# -Server, -Scheme, -Ssl, -By, -User, -Client-Cert (Envoy), -Tls-Client-Cert (Traefik).
X_FORWARDED = b"x-forwarded-"

# RFC 9440 §2
CLIENT_CERTIFICATE = (b"client-cert", b"client-cert-chain")

_ADDRESS = (
    b"forwarded",  # RFC 7239
    b"x-real-ip",  # nginx's realip module
    b"x-forwarded",  # X-Forwarded-For as older proxies and application firewalls spell it
    b"forwarded-for",
    b"x-original-forwarded-for",  # ingress-nginx
    b"x-client-ip",  # Apache's mod_remoteip, Azure, Express' request-ip
    b"client-ip",  # PHP code reads HTTP_CLIENT_IP first
    b"true-client-ip",  # Akamai, Cloudflare Enterprise
    b"cf-connecting-ip",  # Cloudflare
    b"cf-connecting-ipv6",
    b"cf-pseudo-ipv4",
    b"fastly-client-ip",  # Fastly
    b"fly-client-ip",  # Fly.io
    b"do-connecting-ip",  # DigitalOcean
    b"x-nf-client-connection-ip",  # Netlify
    b"x-appengine-user-ip",  # Google App Engine
    b"x-azure-clientip",  # Azure Front Door
    b"x-azure-socketip",
    b"cloudfront-viewer-address",  # Amazon CloudFront
    b"x-envoy-external-address",  # Envoy
    b"x-cluster-client-ip",  # Rackspace, Riverbed; Rails and Django packages read it
    b"x-remote-ip",
    b"x-remote-addr",
    b"x-originating-ip",
    b"x-proxyuser-ip",  # Google's services
    b"proxy-client-ip",  # WebLogic's plug-in, and what Java code copied from it
    b"wl-proxy-client-ip",
    b"ali-cdn-real-ip",  # Alibaba
    b"incap-client-ip",  # Imperva
    b"x-sucuri-clientip",  # Sucuri
    b"x-vercel-forwarded-for",  # Vercel
    b"x-original-for",  # ASP.NET Core's forwarded headers, which keep what they replace
    b"x-original-remote-addr",
    b"x-envoy-internal",  # Envoy: the client is of the own network
)
_SCHEME = (
    b"front-end-https",  # Microsoft: "on"
    b"x-front-end-https",
    b"x-url-scheme",  # gunicorn and older WSGI servers
    b"x-scheme",  # ingress-nginx, Flask behind it
    b"x-proto",
    b"x-https",
    b"x-arr-ssl",  # Azure App Service, IIS
    b"wl-proxy-ssl",  # WebLogic's plug-in
    b"cloudfront-forwarded-proto",
    b"cloudfront-viewer-tls",
    b"cf-visitor",  # Cloudflare: {"scheme":"https"}
    b"fastly-ssl",
    b"x-original-proto",  # ASP.NET Core
    b"x-original-scheme",
)
_HOST = (
    b"x-host",
    b"x-original-host",  # Azure Application Gateway
    b"x-http-host-override",
)
# How a proxy rewrote the path: frameworks route by these instead of by the target, past whatever a
# proxy allows or refuses by path.
_PATH = (
    b"x-original-url",  # IIS; Symfony and Zend route by it
    b"x-rewrite-url",
    b"x-original-uri",  # ingress-nginx
    b"x-original-method",
    b"x-script-name",  # WSGI middleware
    b"x-original-prefix",  # ASP.NET Core
    b"x-envoy-original-path",  # Envoy
    b"x-override-url",
)
# Which field in an answer has the proxy send a file, and where that file lies: Rack::Sendfile
# answers by these with the path of any file that the application sends (CVE-2025-61780).
_SENDING = (b"x-sendfile-type", b"x-accel-mapping")
# A certificate that a proxy has verified.
_CERTIFICATE = (
    *CLIENT_CERTIFICATE,
    b"x-client-cert",
    b"x-client-verify",
    b"x-ssl-cert",
    b"x-client-dn",
    b"x-arr-clientcert",  # Azure, IIS
    b"x-amzn-mtls-clientcert",  # Amazon's load balancer
    b"wl-proxy-client-cert",
)
NAMES = frozenset({*_ADDRESS, *_SCHEME, *_HOST, *_PATH, *_SENDING, *_CERTIFICATE})
PREFIXES = (
    X_FORWARDED,
    b"x-ssl-client-",  # nginx's and HAProxy's documentation: -Cert, -Verify, -DN, -CN
    b"ssl-client-",  # ingress-nginx, Apache
    b"x-tls-client-",
    b"x-amzn-mtls-clientcert-",
)


def is_claim(name: bytes) -> bool:
    """Whether a field of this name (lower-case) claims something about a client."""
    return name in NAMES or name.startswith(PREFIXES)
