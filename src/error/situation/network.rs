//! Between this machine and a server.

use super::situations;

situations! {
    NAME_NOT_RESOLVED [TempFail]:
        "The name of a host could not be resolved: it has no address, or no name server answered. Soon after boot, the network may not be up yet.",
        "Check the spelling of the host, /etc/resolv.conf, and whether a proxy is needed. `getent hosts HOST` asks the same name servers.";
    NOT_REACHED [TempFail]:
        "A connection could not be made: it was refused, timed out, or the network is not reachable. Firewalls that drop packets show up as a timeout.",
        "Check that this machine may connect to the host and port in the message, directly or through a proxy, and run the same command again.";
    CONNECTION_CUT [TempFail]:
        "A connection was made, and then broke off or stalled. Proxies and load balancers do this to long transfers.",
        "Run the same command again. If it happens each time at the same place, look for a limit on size or time in a proxy.";
    CERTIFICATE [Config]:
        "The certificate of the server is not trusted: it is signed by an authority that this machine does not know, expired, or for another name. A proxy that inspects TLS replaces the certificates of all servers.",
        "Pass the authority's certificate with --ca-file, or install it on the machine. If it has expired, the server needs a new one. runup cannot skip this check.";
    CERTIFICATE_NOT_YET_VALID [TempFail]:
        "By this machine's clock, the certificate of the server is not valid yet. After boot, a machine without a battery-backed clock is often years behind.",
        "Set the clock, for example with `timedatectl set-ntp true`, and run the same command again.";
    TLS [Config]:
        "The TLS handshake failed. The port may not serve HTTPS, or a device in between supports only versions before TLS 1.2.",
        "Check the port and the scheme of the URL, and any proxy in between.";
    NOT_HTTP [Protocol]:
        "What answered at this address does not speak HTTP.",
        "Check the host and the port of --url, --api-url and the proxy.";
    PROXY [Config]:
        "The proxy that is configured cannot be used by runup or by the runner.",
        "Set --proxy or the variable in the message to http://HOST:PORT or https://HOST:PORT, or unset it. GitHub's runner supports no other kind of proxy.";
    PROXY_REFUSED [NoPerm]:
        "The proxy demands a user and a password, or refuses those that it got (407).",
        "Set them in --proxy or the variable in the message, as http://USER:PASSWORD@HOST:PORT, with special characters as %XX.";
    NOT_ENCRYPTED [Config, Usage]:
        "A token would have gone to another machine over plain HTTP, where anyone on the network can read it. Nothing was sent.",
        "Use https://. On a trusted network, pass --allow-http.";
    REQUEST_INVALID [Config]:
        "A request cannot be sent: its URL or one of its headers is not valid. A server may have sent the URL in a redirect.",
        "Check --url, --api-url and --archive, and that the token file holds the token and nothing else.";
    HTTP_CLIENT [Config]:
        "The HTTP client could not be set up with these certificates and proxies.",
        "Check --ca-file, --proxy, and the variables http_proxy, https_proxy, SSL_CERT_FILE and SSL_CERT_DIR.";
    CA_FILE [NoInput, Data, Io, NoPerm, Os, CantCreate]:
        "The file with additional root certificates cannot be read, or has no PEM certificate in it.",
        "Pass a readable file with PEM certificates in --ca-file, or omit the option.";
    SERVER_FAILED [TempFail]:
        "The server answered with an error of its own (5xx) for as long as runup may try.",
        "Run the same command again later. https://www.githubstatus.com shows whether GitHub has an incident.";
    REDIRECT [Protocol]:
        "The server redirects to where runup does not follow: from https to http, too often, or without an address.",
        "Check the host of --url, --api-url and --archive, and any proxy or sign-in page in between. Ask the server's administrator to redirect to https only.";
    ANSWER_TOO_LARGE [Protocol]:
        "An answer is larger than any answer of GitHub's REST API.",
        "Check the host of --url and --api-url, and any proxy in between.";
    CLOCK_OFF [TempFail]:
        "The clock of this machine differs from the server's by so much that tokens would be refused.",
        "Set the clock, for example with `timedatectl set-ntp true`, and run the same command again.";
    DOWNLOAD_REFUSED [NoPerm, Unavailable, TempFail, Protocol]:
        "The server that has the archive refused the download, or does not have it.",
        "Check the address in the message. If it is a mirror's, see whether it has this version; if it is GitHub's, see whether a proxy or firewall blocks the host.";
    DOWNLOAD_LENGTH [Protocol]:
        "A download was longer or shorter than the server had announced. A proxy may have changed it.",
        "Run the same command again. If it happens again, look at the proxy, or pass the file with --archive and --sha256.";
    METADATA_SILENT [TempFail]:
        "The cloud's metadata service did not answer, so the name or the labels could not be filled in.",
        "Run the same command again. If the service is disabled for this machine, omit {instance-id}, {region} and --label-from.";
    METADATA_REFUSED [Unavailable, Config]:
        "The cloud's metadata service does not tell what the name or the labels need, or this machine is not in a known cloud.",
        "Enable the metadata service of the machine, or omit {instance-id}, {region} and --label-from.";
}
