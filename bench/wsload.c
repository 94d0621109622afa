/*
 * wsload: a WebSocket load generator (RFC 6455 client), single-threaded, epoll.
 *
 *   cc -O2 -o wsload wsload.c              plain ws://
 *   cc -O2 -DTLS -o wsload wsload.c -lssl -lcrypto     adds --tls
 *   cc -O2 -DDEFLATE -o wsload wsload.c -lz            adds --deflate (JSON-like text, no context takeover;
 *                                                      answers must be compressed; their length is not checked)
 *
 * Modes
 *   echo       every connection keeps DEPTH messages in flight and counts what comes back
 *   broadcast  one connection publishes, every connection counts what it receives
 *   idle       opens the connections, holds them for the duration, counts those that survive
 *   connect    opens, upgrades and closes connections as fast as it can, CONNS at a time
 *
 * Prints one line of JSON, and "begin" and "end" on standard error around the time that it measures.  Times are seconds
 * and may have fractions, latencies microseconds, rates per second.
 * A server's answer is checked: the handshake status and the length of each message.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifdef TLS
#include <openssl/ssl.h>
#include <openssl/err.h>
static SSL_CTX *tls_context;
#endif

#ifdef DEFLATE
#include <zlib.h>
#endif

enum mode { ECHO, BROADCAST, IDLE, CONNECT };
enum state { CLOSED, CONNECTING, TLS_HANDSHAKE, UPGRADING, OPEN };

struct conn {
    int fd, index;
    enum state state;
    char head[4096];              /* handshake response */
    size_t head_len;
    unsigned char header[14];     /* frame header being read */
    unsigned header_len;
    uint64_t payload_left;        /* of the frame being read */
    int in_payload;
    int compressed;               /* RSV1 of the message's first frame */
    unsigned char control[125];   /* payload of a control frame */
    unsigned control_len;
    uint64_t message_len;         /* of the message being read, over its frames */
    const unsigned char *out;     /* bytes being written */
    size_t out_len;
    size_t queued;                /* whole messages still to be written after `out` */
    uint64_t *sent_at;            /* ring of DEPTH send times, ns */
    unsigned sent_head, sent_tail;
#ifdef TLS
    SSL *ssl;
#endif
};

static const char *host = "127.0.0.1", *path = "/", *subprotocol;
static int port = 9000, conns = 100, depth = 1, tls, text, deflated, sources = 1;
static double seconds = 5, warmup = 1;
static size_t size = 64, fragment;
static enum mode mode = ECHO;

static int epoll_fd;
static struct conn *all;
static unsigned char *message;    /* one masked client message, ready to send */
static size_t message_bytes;
static char request[2048];
static size_t request_len;
static uint64_t opened, failed, dropped, received, received_bytes, wrong, measuring;
static uint32_t *latency;
static size_t latency_count, latency_room;
static char first_failure[160];

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + t.tv_nsec;
}

static void fail(const char *why)
{
    failed++;
    if (!first_failure[0]) snprintf(first_failure, sizeof first_failure, "%.150s", why);
}

static size_t frame(unsigned char *to, int first_byte, size_t len)
{
    size_t n = 0;
    to[n++] = first_byte;
    if (len < 126) to[n++] = 0x80 | len;
    else if (len < 65536) { to[n++] = 0x80 | 126; to[n++] = len >> 8; to[n++] = len; }
    else { to[n++] = 0x80 | 127; for (int i = 7; i >= 0; i--) to[n++] = (uint64_t)len >> (8 * i); }
    static const unsigned char mask[4] = { 0x37, 0xfa, 0x21, 0x3d };
    memcpy(to + n, mask, 4); n += 4;
    for (size_t i = 0; i < len; i++) to[n + i] = ('a' + i % 26) ^ mask[i & 3];
    return n + len;
}

#ifdef DEFLATE
static void build_deflated_message(void)
{
    char *json = malloc(size + 64);
    size_t used = 0;
    for (unsigned i = 0; used < size; i++)
        used += sprintf(json + used, "{\"id\": %u, \"value\": %u, \"name\": \"n%u\"}, ", i, i * 2654435761u % 100000, i % 7);
    unsigned char *packed = malloc(size + 1024);
    z_stream z = { .next_in = (void *)json, .avail_in = size, .next_out = packed, .avail_out = size + 1024 };
    deflateInit2(&z, 6, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY);
    deflate(&z, Z_SYNC_FLUSH);
    size_t len = z.total_out - 4;      /* RFC 7692 7.2.1: less the 00 00 ff ff */
    message = malloc(len + 14);
    message_bytes = frame(message, 0xc1, len);
    static const unsigned char mask[4] = { 0x37, 0xfa, 0x21, 0x3d };
    for (size_t i = 0; i < len; i++) message[message_bytes - len + i] = packed[i] ^ mask[i & 3];
}
#endif

static void build_message(void)
{
#ifdef DEFLATE
    if (deflated) { build_deflated_message(); return; }
#endif
    size_t pieces = fragment ? (size + fragment - 1) / fragment : 1;
    if (!pieces) pieces = 1;
    message = malloc(size + pieces * 14);
    size_t left = size;
    for (size_t i = 0; i < pieces; i++) {
        size_t len = fragment && left > fragment ? fragment : left;
        int first = (i ? 0 : text ? 1 : 2) | (i + 1 == pieces ? 0x80 : 0);
        message_bytes += frame(message + message_bytes, first, len);
        left -= len;
    }
}

static ssize_t transport_read(struct conn *c, void *to, size_t len)
{
#ifdef TLS
    if (c->ssl) {
        int n = SSL_read(c->ssl, to, (int)len);
        if (n > 0) return n;
        int e = SSL_get_error(c->ssl, n);
        if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE) { errno = EAGAIN; return -1; }
        return e == SSL_ERROR_ZERO_RETURN ? 0 : (errno = ECONNRESET, -1);
    }
#endif
    return read(c->fd, to, len);
}

static ssize_t transport_write(struct conn *c, const void *from, size_t len)
{
#ifdef TLS
    if (c->ssl) {
        int n = SSL_write(c->ssl, from, (int)(len > 1 << 20 ? 1 << 20 : len));
        if (n > 0) return n;
        int e = SSL_get_error(c->ssl, n);
        errno = e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
        return -1;
    }
#endif
    return send(c->fd, from, len, MSG_NOSIGNAL);
}

static void want(struct conn *c, uint32_t events)
{
    struct epoll_event e = { .events = events, .data.ptr = c };
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

static void drop(struct conn *c)
{
    if (c->state == CLOSED) return;
    if (c->state == OPEN) { opened--; if (mode != CONNECT) dropped++; }
#ifdef TLS
    if (c->ssl) SSL_free(c->ssl);
    c->ssl = NULL;
#endif
    close(c->fd);
    c->state = CLOSED;
}

static void start(struct conn *c)
{
    uint64_t *ring = c->sent_at;
    int index = c->index;
    memset(c, 0, sizeof *c);
    c->sent_at = ring;
    c->index = index;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) { fail("socket"); return; }
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (sources > 1) {
        struct sockaddr_in from = { .sin_family = AF_INET };
        from.sin_addr.s_addr = htonl(0x7f000002u + index % sources);
        setsockopt(c->fd, IPPROTO_IP, 24 /* IP_BIND_ADDRESS_NO_PORT */, &one, sizeof one);
        bind(c->fd, (struct sockaddr *)&from, sizeof from);
    }
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
    inet_pton(AF_INET, host, &to.sin_addr);
    c->state = CONNECTING;
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) {
        fail(strerror(errno)); close(c->fd); c->state = CLOSED; return;
    }
    struct epoll_event e = { .events = EPOLLOUT, .data.ptr = c };
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
}

static void flush(struct conn *c)
{
    while (c->out_len || c->queued) {
        if (!c->out_len) { c->out = message; c->out_len = message_bytes; c->queued--; }
        ssize_t n = transport_write(c, c->out, c->out_len);
        if (n < 0) {
            if (errno == EAGAIN) { want(c, EPOLLIN | EPOLLOUT); return; }
            if (c->state != OPEN) fail("write");
            drop(c);
            return;
        }
        c->out += n; c->out_len -= n;
        if (!c->out_len && !c->queued && c->state == OPEN) want(c, EPOLLIN);
    }
}

static void send_message(struct conn *c)
{
    c->sent_at[c->sent_head++ % depth] = now_ns();
    c->queued++;
}

static void begin(struct conn *c)
{
    opened++;
    c->state = OPEN;
    want(c, EPOLLIN);
    if (mode == CONNECT) {
        static const unsigned char bye[8] = { 0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe8 ^ 2 };
        if (measuring) received++;
        transport_write(c, bye, sizeof bye);
        drop(c);
        start(c);
    }
}

/* Sets a connection talking: not before all are open, or the first ones would keep the others waiting. */
static void talk(struct conn *c)
{
    if (c->state != OPEN) return;
    for (int i = 0; i < depth; i++) send_message(c);
    flush(c);
}

/* Answers a Ping at once; small enough never to be refused by the socket in practice. */
static void pong(struct conn *c)
{
    unsigned char out[131] = { 0x8a, 0x80 | c->control_len, 1, 2, 3, 4 };
    if (c->out_len) return;       /* in the middle of a message: the next Ping will do */
    for (unsigned i = 0; i < c->control_len; i++) out[6 + i] = c->control[i] ^ (i % 4 + 1);
    transport_write(c, out, 6 + c->control_len);
}

static void message_done(struct conn *c)
{
    if (deflated ? !c->compressed : c->message_len != size) wrong++;
    if (measuring) { received++; received_bytes += c->message_len; }
    c->message_len = 0;
    if (mode == ECHO || (mode == BROADCAST && c->index == 0)) {
        if (c->sent_tail != c->sent_head) {
            uint64_t took = now_ns() - c->sent_at[c->sent_tail++ % depth];
            if (measuring && latency_count < latency_room) latency[latency_count++] = took / 1000;
            send_message(c);
        }
    }
}

static void read_frames(struct conn *c, const unsigned char *p, size_t n)
{
    while (n) {
        if (c->in_payload) {
            size_t take = n < c->payload_left ? n : c->payload_left;
            if (c->header[0] & 8 && c->control_len + take <= sizeof c->control) {
                memcpy(c->control + c->control_len, p, take);
                c->control_len += take;
            }
            c->payload_left -= take; p += take; n -= take;
        } else {
            c->header[c->header_len++] = *p++; n--;
            unsigned len7 = c->header[1] & 127;
            if (c->header_len < 2 || c->header_len < 2 + (len7 == 126 ? 2 : len7 == 127 ? 8 : 0)) continue;
            uint64_t len = len7;
            if (len7 >= 126) { len = 0; for (unsigned i = 2; i < c->header_len; i++) len = len << 8 | c->header[i]; }
            if ((c->header[0] & 15) == 8) { drop(c); return; }
            c->in_payload = 1; c->payload_left = len; c->control_len = 0;
            if (!(c->header[0] & 8)) c->message_len += len;
            if ((c->header[0] & 15) == 1 || (c->header[0] & 15) == 2) c->compressed = c->header[0] & 0x40;
        }
        if (c->in_payload && !c->payload_left) {
            c->in_payload = 0; c->header_len = 0;
            if (c->header[0] & 8) { if ((c->header[0] & 15) == 9) pong(c); }
            else if (c->header[0] & 0x80) message_done(c);
        }
    }
}

static void readable(struct conn *c)
{
    static unsigned char buffer[262144];
    for (;;) {
        ssize_t n = transport_read(c, buffer, sizeof buffer);
        if (n < 0 && errno == EAGAIN) break;
        if (n <= 0) {
            if (c->state == UPGRADING) fail("closed in handshake");
            drop(c);
            if (mode == CONNECT) start(c);
            return;
        }
        unsigned char *p = buffer;
        if (c->state == UPGRADING) {
            size_t room = sizeof c->head - 1 - c->head_len, before = c->head_len;
            if ((size_t)n > room) n = room;
            memcpy(c->head + c->head_len, buffer, n);
            c->head_len += n; c->head[c->head_len] = 0;
            char *end = strstr(c->head, "\r\n\r\n");
            if (!end) continue;
            if (strncmp(c->head, "HTTP/1.1 101", 12)) {
                char *eol = strstr(c->head, "\r\n"); *eol = 0; fail(c->head); drop(c); return;
            }
            size_t used = end + 4 - c->head - before;
            p += used; n -= used;
            begin(c);
            if (c->state != OPEN) return;
        }
        read_frames(c, p, n);
        if (c->state != OPEN) return;
        if ((size_t)n < sizeof buffer && !tls) break;
    }
    if (c->state == OPEN) flush(c);
}

#ifdef TLS
static void tls_step(struct conn *c)
{
    int r = SSL_connect(c->ssl);
    if (r == 1) { c->state = UPGRADING; c->out = (void *)request; c->out_len = request_len; want(c, EPOLLIN); flush(c); return; }
    int e = SSL_get_error(c->ssl, r);
    if (e == SSL_ERROR_WANT_READ) want(c, EPOLLIN);
    else if (e == SSL_ERROR_WANT_WRITE) want(c, EPOLLOUT);
    else { fail("TLS handshake"); drop(c); }
}
#endif

static void ready(struct conn *c, uint32_t events)
{
    if (c->state == CONNECTING) {
        int error = 0; socklen_t len = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error) { fail(strerror(error)); drop(c); return; }
#ifdef TLS
        if (tls) {
            c->ssl = SSL_new(tls_context); SSL_set_fd(c->ssl, c->fd);
            c->state = TLS_HANDSHAKE; tls_step(c); return;
        }
#endif
        c->state = UPGRADING; c->out = (void *)request; c->out_len = request_len;
        want(c, EPOLLIN); flush(c);
        return;
    }
#ifdef TLS
    if (c->state == TLS_HANDSHAKE) { tls_step(c); return; }
#endif
    if (events & EPOLLOUT) flush(c);
    if (c->state >= UPGRADING && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
}

static void poll_once(int timeout_ms)
{
    struct epoll_event events[1024];
    int n = epoll_wait(epoll_fd, events, 1024, timeout_ms);
    for (int i = 0; i < n; i++) ready(events[i].data.ptr, events[i].events);
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static uint32_t percentile(double q)
{
    return latency_count ? latency[(size_t)(q * (latency_count - 1))] : 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "host", 1, 0, 'h' }, { "port", 1, 0, 'p' }, { "path", 1, 0, 'u' }, { "protocol", 1, 0, 'P' },
        { "mode", 1, 0, 'm' }, { "conns", 1, 0, 'c' }, { "size", 1, 0, 's' }, { "fragment", 1, 0, 'f' },
        { "depth", 1, 0, 'd' }, { "seconds", 1, 0, 't' }, { "warmup", 1, 0, 'w' }, { "text", 0, 0, 'x' },
        { "tls", 0, 0, 'T' }, { "sources", 1, 0, 'S' }, { "deflate", 0, 0, 'D' }, { 0 } };
    int o;
    while ((o = getopt_long(argc, argv, "h:p:u:P:m:c:s:f:d:t:w:xTS:D", options, NULL)) != -1) switch (o) {
        case 'h': host = optarg; break;         case 'p': port = atoi(optarg); break;
        case 'u': path = optarg; break;         case 'P': subprotocol = optarg; break;
        case 'c': conns = atoi(optarg); break;  case 's': size = strtoull(optarg, 0, 10); break;
        case 'f': fragment = strtoull(optarg, 0, 10); break;
        case 'd': depth = atoi(optarg); break;  case 't': seconds = atof(optarg); break;
        case 'w': warmup = atof(optarg); break; case 'x': text = 1; break;
        case 'D': deflated = 1; break;          case 'T': tls = 1; break;               case 'S': sources = atoi(optarg); break;
        case 'm': mode = *optarg == 'b' ? BROADCAST : *optarg == 'i' ? IDLE : *optarg == 'c' ? CONNECT : ECHO; break;
        default: fprintf(stderr, "wsload: bad option; read the head of wsload.c\n"); return 2;
    }
#ifdef TLS
    tls_context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_session_cache_mode(tls_context, SSL_SESS_CACHE_OFF);
#else
    if (tls) { fprintf(stderr, "wsload: built without -DTLS\n"); return 2; }
#endif
#ifndef DEFLATE
    if (deflated) { fprintf(stderr, "wsload: built without -DDEFLATE\n"); return 2; }
#endif
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files); files.rlim_cur = files.rlim_max; setrlimit(RLIMIT_NOFILE, &files);

    char protocol_line[256] = "";
    if (subprotocol) snprintf(protocol_line, sizeof protocol_line, "Sec-WebSocket-Protocol: %s\r\n", subprotocol);
    request_len = snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s%s\r\n",
        path, host, port, protocol_line, deflated ? "Sec-WebSocket-Extensions: permessage-deflate; "
        "client_no_context_takeover; server_no_context_takeover\r\n" : "");
    build_message();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    all = calloc(conns, sizeof *all);
    latency_room = 20000000; latency = malloc(latency_room * sizeof *latency);

    uint64_t began = now_ns();
    int started = 0;
    for (int i = 0; i < conns; i++) { all[i].index = i; all[i].sent_at = calloc(depth, sizeof(uint64_t)); }
    while (opened + failed < (uint64_t)conns && now_ns() - began < 60000000000ull) {
        if (mode == CONNECT && started == conns) break;
        while (started < conns && started < (int)(opened + failed) + 256) start(&all[started++]);
        poll_once(100);
    }
    double open_seconds = (now_ns() - began) / 1e9;
    uint64_t opened_at_start = opened;
    if (mode == BROADCAST) talk(&all[0]);
    if (mode == ECHO) for (int i = 0; i < conns; i++) talk(&all[i]);
    uint64_t until = now_ns() + (uint64_t)(warmup * 1e9);
    while (now_ns() < until) poll_once(50);
    measuring = 1;
    fputs("begin\n", stderr);
    uint64_t t0 = now_ns();
    until = t0 + (uint64_t)(seconds * 1e9);
    while (now_ns() < until) poll_once(50);
    measuring = 0;
    double took = (now_ns() - t0) / 1e9;
    fputs("end\n", stderr);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    qsort(latency, latency_count, sizeof *latency, ascending);
    printf("{\"mode\": \"%s\", \"conns\": %d, \"opened\": %llu, \"failed\": %llu, \"dropped\": %llu, \"wrong\": %llu, "
           "\"open_seconds\": %.3f, \"size\": %zu, \"depth\": %d, \"seconds\": %.2f, \"messages\": %llu, "
           "\"rate\": %.0f, \"mb_per_s\": %.1f, \"p50_us\": %u, \"p99_us\": %u, \"p999_us\": %u, "
           "\"client_cpu\": %.2f, \"first_failure\": \"%s\"}\n",
           mode == ECHO ? "echo" : mode == BROADCAST ? "broadcast" : mode == IDLE ? "idle" : "connect", conns,
           (unsigned long long)(mode == CONNECT ? received : opened_at_start), (unsigned long long)failed,
           (unsigned long long)dropped, (unsigned long long)wrong, open_seconds, size, depth, took,
           (unsigned long long)received, received / took, received_bytes / took / 1e6,
           percentile(0.5), percentile(0.99), percentile(0.999),
           usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6,
           first_failure);
    return failed || dropped || wrong ? 1 : 0;
}
