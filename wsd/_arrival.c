/*
 * What a server does once for each connection that comes in, in C: accepting it, reading the request for a WebSocket that
 * nearly every client sends, and ending its side.
 *
 * Optional, as wsd/_native.c is: wsd/accepting.py and wsd/wire/ordinary.py have the same functions in Python, which say
 * what each of them does, and with which the tests hold these equal.  There is no policy here: limits are arguments,
 * and a request that is in any way out of the ordinary is left to wsd/wire/http.py, with its checks.
 */

#include "_native.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* -- characters --------------------------------------------------------------------------------------------------- */

/* What a byte may be part of. */
enum { TOKEN = 1, VALUE = 2, TARGET = 4, HOST = 8, BASE64 = 16 };

static unsigned char kinds[256];

static void mark(const char *bytes, unsigned char kind)
{
    for (; *bytes; bytes++) {
        kinds[(unsigned char)*bytes] |= kind;
    }
}

static void fill_kinds(void)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    mark(letters, TOKEN | HOST | BASE64);
    mark("!#$%&'*+-.^_`|~", TOKEN); /* RFC 9110 5.6.2 */
    mark("-.", HOST);               /* of a name or an IPv4 address; other hosts are not the ordinary case */
    mark("+/", BASE64);
    for (int byte = 0x20; byte < 0x100; byte++) {
        if (byte != 0x7F) {
            kinds[byte] |= VALUE; /* RFC 9110 5.5 */
        }
        if (byte > 0x20 && byte < 0x7F && byte != '#') {
            kinds[byte] |= TARGET;
        }
    }
    kinds['\t'] |= VALUE;
}

/* -- a request's head --------------------------------------------------------------------------------------------- */

typedef struct {
    const unsigned char *at;
    Py_ssize_t size;
} Text;

/* The headers that count, and those that are not in an ordinary request for a WebSocket. */
enum {
    HOST_LINE,
    UPGRADE,
    CONNECTION,
    KEY,
    VERSION,
    ORIGIN,
    SUBPROTOCOLS,
    EXTENSIONS,
    WANTED, /* how many there are of those */
    CONTENT_LENGTH = WANTED,
    TRANSFER_ENCODING,
    NAMED,
};

static const char *const NAMES[NAMED] = {
    "host",
    "upgrade",
    "connection",
    "sec-websocket-key",
    "sec-websocket-version",
    "origin",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "content-length",
    "transfer-encoding",
};

enum { KEY_CHARACTERS = 22 }; /* of 16 bytes in base64, before its "==" */

/* Reports whether the text is the lower-case word, in any case. */
static int is_word(Text text, const char *word)
{
    Py_ssize_t at = 0;
    for (; at < text.size && word[at]; at++) {
        unsigned char byte = text.at[at];
        if (byte >= 'A' && byte <= 'Z') {
            byte = (unsigned char)(byte | 0x20);
        }
        if (byte != (unsigned char)word[at]) {
            return 0;
        }
    }
    return at == text.size && !word[at];
}

static Text trim(Text text)
{
    while (text.size && (*text.at == ' ' || *text.at == '\t')) {
        text.at++;
        text.size--;
    }
    while (text.size && (text.at[text.size - 1] == ' ' || text.at[text.size - 1] == '\t')) {
        text.size--;
    }
    return text;
}

/* Reports whether a comma-separated list has the word. */
static int lists_word(Text list, const char *word)
{
    while (list.size > 0) {
        const unsigned char *comma = memchr(list.at, ',', (size_t)list.size);
        Text element = {list.at, comma == NULL ? list.size : comma - list.at};
        if (is_word(trim(element), word)) {
            return 1;
        }
        list.at += element.size + 1;
        list.size -= element.size + 1;
    }
    return 0;
}

/* How many bytes from the front of the text on are of that kind. */
static Py_ssize_t span(Text text, unsigned char kind)
{
    Py_ssize_t at = 0;
    while (at < text.size && kinds[text.at[at]] & kind) {
        at++;
    }
    return at;
}

static int is_host(Text host)
{
    Py_ssize_t name = span(host, HOST);
    if (name == 0 || name == host.size) {
        return name != 0;
    }
    if (host.at[name] != ':') {
        return 0;
    }
    for (Py_ssize_t at = name + 1; at < host.size; at++) {
        if (host.at[at] < '0' || host.at[at] > '9') {
            return 0;
        }
    }
    return 1;
}

static int is_key(Text key)
{
    return key.size == KEY_CHARACTERS + 2 && span(key, BASE64) == KEY_CHARACTERS && key.at[KEY_CHARACTERS] == '='
           && key.at[KEY_CHARACTERS + 1] == '=';
}

/* Takes one header line from the front of the rest, and its value if it is wanted; 0 if it is not as it should be. */
static int take_line(Text *rest, Text values[NAMED])
{
    Text name = {rest->at, span(*rest, TOKEN)}, value;
    if (name.size == 0 || name.size == rest->size || rest->at[name.size] != ':') {
        return 0;
    }
    rest->at += name.size + 1;
    rest->size -= name.size + 1;
    value.at = rest->at;
    value.size = span(*rest, VALUE);
    if (rest->size - value.size < 2 || value.at[value.size] != '\r' || value.at[value.size + 1] != '\n') {
        return 0;
    }
    rest->at += value.size + 2;
    rest->size -= value.size + 2;
    for (int i = 0; i < NAMED; i++) {
        if (is_word(name, NAMES[i])) {
            if (values[i].at != NULL) {
                return 0; /* what two of them mean is for others to say */
            }
            values[i] = trim(value);
            break;
        }
    }
    return 1;
}

/* Takes the request line; 0 if it is not `GET /... HTTP/1.1`. */
static int take_request_line(Text *rest, Text *target)
{
    static const char before[] = "GET /", behind[] = " HTTP/1.1\r\n";
    enum { BEFORE = sizeof before - 1, BEHIND = sizeof behind - 1 };
    if (rest->size < BEFORE || memcmp(rest->at, before, BEFORE)) {
        return 0;
    }
    rest->at += BEFORE - 1;
    rest->size -= BEFORE - 1;
    target->at = rest->at;
    target->size = span(*rest, TARGET);
    if (rest->size - target->size < BEHIND || memcmp(target->at + target->size, behind, BEHIND)) {
        return 0;
    }
    rest->at += target->size + BEHIND;
    rest->size -= target->size + BEHIND;
    return 1;
}

static int is_ordinary(const Text values[NAMED])
{
    return values[HOST_LINE].at != NULL && values[UPGRADE].at != NULL && values[CONNECTION].at != NULL
           && values[KEY].at != NULL && values[VERSION].at != NULL && values[CONTENT_LENGTH].at == NULL
           && values[TRANSFER_ENCODING].at == NULL && is_host(values[HOST_LINE]) && is_word(values[UPGRADE], "websocket")
           && lists_word(values[CONNECTION], "upgrade") && is_word(values[VERSION], "13") && is_key(values[KEY]);
}

/* The text as a str of one byte a character; None where there is none. */
static PyObject *as_str(Text text)
{
    if (text.at == NULL) {
        Py_RETURN_NONE;
    }
    return PyUnicode_DecodeLatin1((const char *)text.at, text.size, NULL);
}

/* A number that counts something: at least 0. */
static int take_size(PyObject *argument, const char *name, Py_ssize_t *size)
{
    *size = PyLong_AsSsize_t(argument);
    if (*size >= 0) {
        return 0;
    }
    if (!PyErr_Occurred()) {
        PyErr_Format(PyExc_ValueError, "%s is negative", name);
    }
    return -1;
}

static int check_count(const char *name, Py_ssize_t count, Py_ssize_t wanted)
{
    if (count == wanted) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, not %zd", name, wanted, count);
    return -1;
}

static PyObject *arrival_read_upgrade(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    static const int told[] = {HOST_LINE, KEY, ORIGIN, SUBPROTOCOLS, EXTENSIONS};
    enum { TOLD = sizeof told / sizeof *told };
    Py_ssize_t most_bytes, most_headers, most_target, lines = 0;
    Text rest, target, values[NAMED] = {{NULL, 0}};
    PyObject *answer, *part;

    if (check_count("read_upgrade", count, 4) < 0 || take_size(arguments[1], "max_head_bytes", &most_bytes) < 0
        || take_size(arguments[2], "max_headers", &most_headers) < 0
        || take_size(arguments[3], "max_uri_bytes", &most_target) < 0) {
        return NULL;
    }
    if (!PyBytes_Check(arguments[0])) {
        PyErr_SetString(PyExc_TypeError, "data must be bytes");
        return NULL;
    }
    rest.at = (const unsigned char *)PyBytes_AS_STRING(arguments[0]);
    rest.size = PyBytes_GET_SIZE(arguments[0]);
    if (!take_request_line(&rest, &target) || target.size > most_target) {
        Py_RETURN_NONE;
    }
    while (rest.size < 2 || rest.at[0] != '\r' || rest.at[1] != '\n') {
        if (lines++ == most_headers || !take_line(&rest, values)) {
            Py_RETURN_NONE;
        }
    }
    rest.size = PyBytes_GET_SIZE(arguments[0]) - rest.size + 2; /* of the head */
    if (rest.size > most_bytes || !is_ordinary(values)) {
        Py_RETURN_NONE;
    }
    answer = PyTuple_New(2 + TOLD);
    if (answer == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < 2 + TOLD; i++) {
        part = i == 0 ? PyLong_FromSsize_t(rest.size) : as_str(i == 1 ? target : values[told[i - 2]]);
        if (part == NULL) {
            Py_DECREF(answer);
            return NULL;
        }
        PyTuple_SET_ITEM(answer, i, part);
    }
    return answer;
}

/* -- system calls ------------------------------------------------------------------------------------------------- */

/* The number of a descriptor; the kernel says what is wrong with one that is not open, or negative. */
static int take_descriptor(PyObject *argument, int *fd)
{
    Py_ssize_t number = PyLong_AsSsize_t(argument);
    if (number == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (number < INT_MIN || number > INT_MAX) {
        PyErr_SetString(PyExc_OverflowError, "no descriptor has such a number");
        return -1;
    }
    *fd = (int)number;
    return 0;
}

typedef union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
    struct sockaddr_storage room;
} Address;

/* `(host, port)`; of a Unix socket its path, empty where it has none. */
static PyObject *name_address(const Address *address, socklen_t size)
{
    char host[INET6_ADDRSTRLEN + sizeof "%4294967295"] = "";
    unsigned port = 0;
    if (size < offsetof(struct sockaddr, sa_data)) {
        return PyUnicode_FromStringAndSize("", 0);
    }
    switch (address->any.sa_family) {
    case AF_INET:
        inet_ntop(AF_INET, &address->v4.sin_addr, host, sizeof host);
        port = ntohs(address->v4.sin_port);
        break;
    case AF_INET6:
        /* With the zone of a link-local address, as Python's own accept has it; it asks nobody. */
        if (getnameinfo(&address->any, size, host, sizeof host, NULL, 0, NI_NUMERICHOST)) {
            host[0] = '\0';
        }
        port = ntohs(address->v6.sin6_port);
        break;
    case AF_UNIX:
        /* One in the abstract namespace begins with a zero, and counts as none. */
        size -= (socklen_t)offsetof(struct sockaddr_un, sun_path);
        return PyUnicode_DecodeFSDefaultAndSize(address->local.sun_path,
                                                (Py_ssize_t)strnlen(address->local.sun_path, size));
    }
    return Py_BuildValue("(sI)", host, port);
}

static PyObject *arrival_accept(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Address peer, local;
    socklen_t peer_size = sizeof peer, local_size = sizeof local;
    PyObject *from, *to;
    int listener, fd, wants_local;

    if (check_count("accept", count, 2) < 0 || take_descriptor(arguments[0], &listener) < 0) {
        return NULL;
    }
    wants_local = PyObject_IsTrue(arguments[1]);
    if (wants_local < 0) {
        return NULL;
    }
    fd = accept4(listener, &peer.any, &peer_size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return Py_BuildValue("(iOO)", -errno, Py_None, Py_None);
    }
    if (wants_local && getsockname(fd, &local.any, &local_size) < 0) {
        int error = errno;
        close(fd);
        return Py_BuildValue("(iOO)", -error, Py_None, Py_None);
    }
    from = name_address(&peer, peer_size);
    to = !wants_local ? Py_NewRef(Py_None) : from == NULL ? NULL : name_address(&local, local_size);
    if (from == NULL || to == NULL) {
        Py_XDECREF(from);
        Py_XDECREF(to);
        close(fd);
        return NULL;
    }
    return Py_BuildValue("(iNN)", fd, from, to);
}

static PyObject *arrival_shut_down(PyObject *Py_UNUSED(module), PyObject *argument)
{
    int fd;
    if (take_descriptor(argument, &fd) < 0) {
        return NULL;
    }
    return PyLong_FromLong(shutdown(fd, SHUT_WR) < 0 ? errno : 0);
}

/* -- the module --------------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"accept", FAST(arrival_accept), METH_FASTCALL, PyDoc_STR("accept(fd, wants_local, /)")},
    {"shut_down", arrival_shut_down, METH_O, PyDoc_STR("shut_down(fd, /)")},
    {"read_upgrade", FAST(arrival_read_upgrade), METH_FASTCALL,
     PyDoc_STR("read_upgrade(data, max_head_bytes, max_headers, max_uri_bytes, /)")},
    {NULL, NULL, 0, NULL},
};

static int begin_or_refuse(PyObject *Py_UNUSED(module))
{
    if (wsd_refuse_if_unwanted() < 0) {
        return -1;
    }
    fill_kinds();
    return 0;
}

/* ISO C has no pointer to a function among the objects; POSIX and CPython do. */
static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)(intptr_t)begin_or_refuse},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "wsd._arrival",
    .m_doc = PyDoc_STR("See wsd/accepting.py and wsd/wire/ordinary.py, which do the same."),
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__arrival(void)
{
    return PyModuleDef_Init(&definition);
}
