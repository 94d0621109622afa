/*
 * What a server does with every byte and every message, in C: masking, whole frames in and out, UTF-8, and the two
 * system calls around them.
 *
 * Optional: wsd/wire/twin.py and wsd/syscalls.py have the same functions in Python, which say what each of them does,
 * and with which the tests hold these equal.  There is no policy here: limits are arguments, and what is not the plain
 * case (a whole, unfragmented, uncompressed, masked data frame) is left to wsd/wire/parser.py, with its checks.
 *
 * The GIL is kept throughout: no call waits but `rest`, which is there for that.  Between the moment when an address is
 * taken from an object and its last use no Python code runs, or the object is held by a buffer or a reference of ours.
 */

#include "_native.h"

#include <errno.h>
#include <limits.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

/* RFC 6455 5.2. */
enum { FIN_TEXT = FIN | OPCODE_TEXT, FIN_BINARY = FIN | OPCODE_BINARY, MASKED = 0x80, LENGTH_BITS = 0x7F };
enum { KEY_BYTES = 4, SHORT_HEADER = 2, MEDIUM_HEADER = 4, LONG_HEADER = 10 };

/* Linux takes at most this many buffers in one sendmsg (UIO_MAXIOV). */
enum { MAX_BUFFERS = 1024 };

/* Up to here, copying buffers into one costs less than the kernel's walk over a vector of them. */
enum { JOIN_BYTES = 32768 };

/* A bit for each of eight bytes, set if that byte is not ASCII. */
static const uint64_t NOT_ASCII = UINT64_C(0x8080808080808080);

/* -- bytes -------------------------------------------------------------------------------------------------------- */

enum { REPEATED_BYTES = 8 };

/* Writes the key again and again, from its byte `offset` on; answers the same as a number of the machine's. */
static uint64_t repeat_key(unsigned char *repeated, const unsigned char *key, size_t offset)
{
    uint64_t pattern;
    for (size_t i = 0; i < REPEATED_BYTES; i++) {
        repeated[i] = key[(offset + i) % KEY_BYTES];
    }
    memcpy(&pattern, repeated, sizeof pattern);
    return pattern;
}

/* Writes `size` bytes of `in`, xor the key from its byte `offset` on, to `out`; answers whether all of them are ASCII.
 * Eight at a time, which the compiler makes into sixteen and more. */
static int unmask(unsigned char *restrict out, const unsigned char *restrict in, Py_ssize_t size,
                  const unsigned char *key, size_t offset)
{
    unsigned char repeated[REPEATED_BYTES];
    uint64_t pattern, word, seen = 0;
    Py_ssize_t at = 0;

    pattern = repeat_key(repeated, key, offset);
    for (; size - at >= (Py_ssize_t)sizeof word; at += (Py_ssize_t)sizeof word) {
        memcpy(&word, in + at, sizeof word);
        word ^= pattern;
        seen |= word;
        memcpy(out + at, &word, sizeof word);
    }
    for (size_t i = 0; at < size; at++, i++) {
        out[at] = (unsigned char)(in[at] ^ repeated[i]);
        seen |= out[at];
    }
    return (seen & NOT_ASCII) == 0;
}

/* Reports whether the bytes are UTF-8 by the table of RFC 3629, section 4: nothing longer than need be, no surrogates,
 * nothing above U+10FFFF. */
static int is_valid_utf8(const unsigned char *at, Py_ssize_t size)
{
    const unsigned char *end = at + size;
    uint64_t word;

    while (at < end) {
        unsigned char first = *at, low, high;
        Py_ssize_t length;

        if (first < 0x80) {
            while (end - at >= (Py_ssize_t)sizeof word && (memcpy(&word, at, sizeof word), !(word & NOT_ASCII))) {
                at += sizeof word;
            }
            while (at < end && *at < 0x80) {
                at++;
            }
            continue;
        }
        length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
        low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
        high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
        if (first < 0xC2 || first > 0xF4 || end - at < length || at[1] < low || at[1] > high
            || (length > 2 && (at[2] & 0xC0) != 0x80) || (length > 3 && (at[3] & 0xC0) != 0x80)) {
            return 0;
        }
        at += length;
    }
    return 1;
}

/* An unsigned number of `size` bytes, the most significant one first. */
static uint64_t big_endian(const unsigned char *at, int size)
{
    uint64_t number = 0;
    for (int i = 0; i < size; i++) {
        number = number << 8 | at[i];
    }
    return number;
}

/* -- frames ------------------------------------------------------------------------------------------------------- */

/* Reads the header of a frame of which `there` bytes have come.  If the frame is one of the plain case, is within the
 * limit and has come whole, answers where its payload begins, and its size; else 0. */
static Py_ssize_t plain_frame(const unsigned char *at, Py_ssize_t there, Py_ssize_t limit, Py_ssize_t *size)
{
    Py_ssize_t begin = SHORT_HEADER;
    uint64_t length;
    if (there < SHORT_HEADER + KEY_BYTES || (at[0] != FIN_TEXT && at[0] != FIN_BINARY) || !(at[1] & MASKED)) {
        return 0;
    }
    length = at[1] & LENGTH_BITS;
    if (length >= 126) {
        begin = length == 126 ? MEDIUM_HEADER : LONG_HEADER;
        if (there < begin + KEY_BYTES) {
            return 0;
        }
        length = big_endian(at + SHORT_HEADER, (int)(begin - SHORT_HEADER));
        /* "the minimal number of bytes MUST be used to encode the length" */
        if (length < (begin == MEDIUM_HEADER ? UINT64_C(126) : UINT64_C(65536))) {
            return 0;
        }
    }
    begin += KEY_BYTES;
    if (length > (uint64_t)(there - begin) || (limit && length > (uint64_t)limit)) {
        return 0;
    }
    *size = (Py_ssize_t)length;
    return begin;
}

/* Appends `(opcode, payload, True, True, 0)` to the list, and takes over the reference to `payload`; 0, or -1 with an
 * exception. */
static int append_piece(PyObject *pieces, long opcode, PyObject *payload)
{
    PyObject *kind = PyLong_FromLong(opcode), *rest = PyLong_FromLong(0), *piece = NULL;
    int failed;
    if (kind != NULL && rest != NULL) {
        piece = PyTuple_Pack(5, kind, payload, Py_True, Py_True, rest);
    }
    Py_XDECREF(kind);
    Py_XDECREF(rest);
    Py_DECREF(payload);
    failed = piece == NULL ? -1 : PyList_Append(pieces, piece);
    Py_XDECREF(piece);
    return failed;
}

/* The payload of the plain frame at the front, its opcode, and how many bytes the frame takes; NULL, without an exception
 * unless there is no memory, where the front is anything else. */
PyObject *wsd_next(const unsigned char *bytes, Py_ssize_t size, Py_ssize_t limit, long *opcode, Py_ssize_t *taken)
{
    Py_ssize_t length = 0, begin = plain_frame(bytes, size, limit, &length);
    const unsigned char *masked = bytes + begin;
    unsigned char *plain;
    PyObject *payload;

    if (begin == 0) {
        return NULL;
    }
    payload = PyBytes_FromStringAndSize(NULL, length);
    if (payload == NULL) {
        return NULL;
    }
    plain = (unsigned char *)PyBytes_AS_STRING(payload);
    /* The empty object is everybody's and not to be written to; one that was asked for with NULL is ours alone. */
    if (length && !unmask(plain, masked, length, masked - KEY_BYTES, 0) && bytes[0] == FIN_TEXT
        && !is_valid_utf8(plain, length)) {
        Py_DECREF(payload);
        return NULL;
    }
    *opcode = bytes[0] & OPCODE_BITS;
    *taken = begin + length;
    return payload;
}

/* `parse` on bytes: how many the frames took, or -1 with an exception. */
Py_ssize_t wsd_parse(const unsigned char *bytes, Py_ssize_t size, Py_ssize_t limit, Py_ssize_t most, PyObject *pieces)
{
    Py_ssize_t at = 0, taken = 0;
    long opcode = 0;
    for (; most > 0; most--) {
        PyObject *payload = wsd_next(bytes + at, size - at, limit, &opcode, &taken);
        if (payload == NULL) {
            return PyErr_Occurred() ? -1 : at;
        }
        if (append_piece(pieces, opcode, payload) < 0) {
            return -1;
        }
        at += taken;
    }
    return at;
}

/* -- arguments ---------------------------------------------------------------------------------------------------- */

static int check_count(const char *name, Py_ssize_t count, Py_ssize_t wanted)
{
    if (count == wanted) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, not %zd", name, wanted, count);
    return -1;
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

static int check_list(PyObject *argument, const char *name)
{
    if (!PyList_Check(argument)) {
        PyErr_Format(PyExc_TypeError, "%s must be a list", name);
        return -1;
    }
    return 0;
}

/* -- the functions ------------------------------------------------------------------------------------------------ */

static PyObject *native_mask(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Py_ssize_t offset = 0;
    Py_buffer data;
    PyObject *key, *masked;

    if (count != 3 && check_count("mask", count, 2) < 0) {
        return NULL;
    }
    key = arguments[1];
    if (!PyBytes_Check(key)) {
        PyErr_SetString(PyExc_TypeError, "the key must be bytes");
        return NULL;
    }
    if (PyBytes_GET_SIZE(key) != KEY_BYTES) {
        PyErr_SetString(PyExc_ValueError, "a masking key is 4 bytes");
        return NULL;
    }
    if (count == 3 && take_size(arguments[2], "offset", &offset) < 0) {
        return NULL;
    }
    if (PyObject_GetBuffer(arguments[0], &data, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    masked = PyBytes_FromStringAndSize(NULL, data.len);
    if (masked != NULL && data.len) {
        unmask((unsigned char *)PyBytes_AS_STRING(masked), data.buf, data.len,
               (const unsigned char *)PyBytes_AS_STRING(key), (size_t)offset);
    }
    PyBuffer_Release(&data);
    return masked;
}

static PyObject *native_is_utf8(PyObject *Py_UNUSED(module), PyObject *argument)
{
    Py_buffer data;
    int answer;
    if (PyObject_GetBuffer(argument, &data, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    answer = data.len == 0 || is_valid_utf8(data.buf, data.len);
    PyBuffer_Release(&data);
    return PyBool_FromLong(answer);
}

static PyObject *native_parse(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Py_ssize_t size, limit, most, taken = -1;
    Py_buffer buffer;
    if (check_count("parse", count, 5) < 0 || take_size(arguments[1], "size", &size) < 0
        || take_size(arguments[2], "limit", &limit) < 0 || take_size(arguments[3], "most", &most) < 0
        || check_list(arguments[4], "pieces") < 0 || PyObject_GetBuffer(arguments[0], &buffer, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    if (size > buffer.len) {
        PyErr_SetString(PyExc_ValueError, "size is more than the buffer holds");
    } else if (size == 0) {
        taken = 0;
    } else {
        taken = wsd_parse(buffer.buf, size, limit, most, arguments[4]);
    }
    PyBuffer_Release(&buffer);
    return taken < 0 ? NULL : PyLong_FromSsize_t(taken);
}

/* A frame that is not masked: `first`, the length, and the payload; of that, nothing where it is NULL. */
PyObject *wsd_frame(unsigned char first, const char *payload, Py_ssize_t size)
{
    Py_ssize_t header = size <= 125 ? SHORT_HEADER : size < 65536 ? MEDIUM_HEADER : LONG_HEADER;
    PyObject *frame = PyBytes_FromStringAndSize(NULL, header + (payload == NULL ? 0 : size));
    unsigned char *at;

    if (frame == NULL) {
        return NULL;
    }
    at = (unsigned char *)PyBytes_AS_STRING(frame);
    at[0] = first;
    at[1] = (unsigned char)(header == SHORT_HEADER ? size : header == MEDIUM_HEADER ? 126 : 127);
    for (Py_ssize_t i = SHORT_HEADER; i < header; i++) {
        at[i] = (unsigned char)((uint64_t)size >> (8 * (header - 1 - i)) & 0xFF);
    }
    if (payload != NULL) {
        memcpy(at + header, payload, (size_t)size);
    }
    return frame;
}

static PyObject *native_frame(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Py_ssize_t first;
    if (check_count("frame", count, 2) < 0 || take_size(arguments[0], "first", &first) < 0) {
        return NULL;
    }
    if (first > 0xFF) {
        PyErr_SetString(PyExc_ValueError, "first is more than a byte");
        return NULL;
    }
    if (!PyBytes_Check(arguments[1])) {
        PyErr_SetString(PyExc_TypeError, "the payload must be bytes");
        return NULL;
    }
    return wsd_frame((unsigned char)first, PyBytes_AS_STRING(arguments[1]), PyBytes_GET_SIZE(arguments[1]));
}

static int is_to_be_tried_again(int number)
{
    return number == EAGAIN || number == EWOULDBLOCK || number == EINTR;
}

/* What recv(2) has: how many bytes, 0 at the end of the stream, -1 when nothing is there now, else -1 - errno. */
Py_ssize_t wsd_receive(int fd, char *buffer, Py_ssize_t size)
{
    Py_ssize_t received = recv(fd, buffer, (size_t)size, MSG_DONTWAIT);
    return received >= 0 ? received : is_to_be_tried_again(errno) ? -1 : -1 - (Py_ssize_t)errno;
}

static PyObject *native_receive(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Py_ssize_t limit, most, received, taken = 0;
    PyObject *came, *took, *answer;
    Py_buffer buffer;
    int fd;

    if (check_count("receive", count, 5) < 0 || take_descriptor(arguments[0], &fd) < 0
        || take_size(arguments[2], "limit", &limit) < 0 || take_size(arguments[3], "most", &most) < 0
        || check_list(arguments[4], "pieces") < 0 || PyObject_GetBuffer(arguments[1], &buffer, PyBUF_WRITABLE) < 0) {
        return NULL;
    }
    if (buffer.len == 0) {
        PyBuffer_Release(&buffer);
        PyErr_SetString(PyExc_ValueError, "an empty buffer: nothing received would look like the end");
        return NULL;
    }
    received = wsd_receive(fd, buffer.buf, buffer.len);
    if (received > 0) {
        taken = wsd_parse(buffer.buf, received, limit, most, arguments[4]);
    }
    PyBuffer_Release(&buffer);
    if (taken < 0) {
        return NULL;
    }
    came = PyLong_FromSsize_t(received);
    took = PyLong_FromSsize_t(taken);
    answer = came != NULL && took != NULL ? PyTuple_Pack(2, came, took) : NULL;
    Py_XDECREF(came);
    Py_XDECREF(took);
    return answer;
}

/* Where the bytes of a part are; 0, or -1 with an exception.  The part must live, and stay as it is, until they have
 * been used: neither kind of object runs Python code here, and the list has a reference. */
static int part_bytes(PyObject *part, struct iovec *bytes)
{
    Py_buffer view;
    if (PyBytes_Check(part)) {
        bytes->iov_base = PyBytes_AS_STRING(part);
        bytes->iov_len = (size_t)PyBytes_GET_SIZE(part);
        return 0;
    }
    if (!PyMemoryView_Check(part)) {
        PyErr_SetString(PyExc_TypeError, "a part must be bytes or a memoryview");
        return -1;
    }
    if (PyObject_GetBuffer(part, &view, PyBUF_SIMPLE) < 0) {
        return -1;
    }
    bytes->iov_base = view.buf;
    bytes->iov_len = (size_t)view.len;
    PyBuffer_Release(&view);
    return 0;
}

/* Gives the kernel what the vectors hold, `size` bytes, in one call; as send(2). */
static Py_ssize_t send_vectors(int fd, struct iovec *vectors, size_t count, size_t size)
{
    unsigned char joined[JOIN_BYTES];
    struct msghdr message = {0};
    size_t at = 0;

    if (count == 1) {
        return send(fd, vectors[0].iov_base, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    if (size > sizeof joined) {
        message.msg_iov = vectors;
        message.msg_iovlen = count;
        return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    for (size_t i = 0; i < count; i++) {
        memcpy(joined + at, vectors[i].iov_base, vectors[i].iov_len);
        at += vectors[i].iov_len;
    }
    return send(fd, joined, at, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* `send` of a list: 0 and how many bytes were taken, or -errno; -1 with an exception. */
int wsd_send(int fd, PyObject *parts, Py_ssize_t *sent)
{
    struct iovec vectors[MAX_BUFFERS];
    size_t used = 0, size = 0;

    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(parts) && used < MAX_BUFFERS; i++) {
        if (part_bytes(PyList_GET_ITEM(parts, i), &vectors[used]) < 0) {
            return -1;
        }
        if (vectors[used].iov_len > (size_t)PY_SSIZE_T_MAX - size) {
            break; /* many views of the same memory: the sum is more than a call can take */
        }
        size += vectors[used].iov_len;
        used += vectors[used].iov_len != 0;
    }
    *sent = size == 0 ? 0 : send_vectors(fd, vectors, used, size);
    if (*sent < 0) {
        *sent = is_to_be_tried_again(errno) ? 0 : -(Py_ssize_t)errno;
    }
    return 0;
}

static PyObject *native_send(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Py_ssize_t sent;
    int fd;
    if (check_count("send", count, 2) < 0 || take_descriptor(arguments[0], &fd) < 0
        || check_list(arguments[1], "parts") < 0 || wsd_send(fd, arguments[1], &sent) < 0) {
        return NULL;
    }
    return PyLong_FromSsize_t(sent);
}

/* -- large payloads ----------------------------------------------------------------------------------------------- */

/* `unmask` where it stands, from byte `offset` of the frame on. */
static void unmask_in_place(unsigned char *bytes, Py_ssize_t size, const unsigned char *key, size_t offset)
{
    unsigned char repeated[REPEATED_BYTES];
    uint64_t pattern, word;
    Py_ssize_t at = 0;

    pattern = repeat_key(repeated, key, offset);
    for (; size - at >= (Py_ssize_t)sizeof word; at += (Py_ssize_t)sizeof word) {
        memcpy(&word, bytes + at, sizeof word);
        word ^= pattern;
        memcpy(bytes + at, &word, sizeof word);
    }
    for (size_t i = 0; at < size; at++, i++) {
        bytes[at] ^= repeated[i];
    }
}

/* So much of what was freed stays ours, once there was a large payload: as much as a turn has of them.  glibc gives back
 * what is over 128 KiB, so that each turn would get new pages from the kernel, which costs a fifth of its time. */
enum { KEPT_BYTES = 1 << 22, LARGEST_ON_HEAP = 1 << 20 };

static void keep_freed(void)
{
#ifdef __GLIBC__
    static int is_set;
    if (!is_set) {
        is_set = 1;
        (void)mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
        (void)mallopt(M_MMAP_THRESHOLD, LARGEST_ON_HEAP); /* glibc no longer finds out by itself, once it is told */
    }
#endif
}

static PyObject *native_receive_payload(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    Py_ssize_t size, offset, received;
    PyObject *key, *payload;
    int fd;

    if (check_count("receive_payload", count, 4) < 0 || take_descriptor(arguments[0], &fd) < 0
        || take_size(arguments[1], "size", &size) < 0 || take_size(arguments[3], "offset", &offset) < 0) {
        return NULL;
    }
    key = arguments[2];
    if (!PyBytes_Check(key)) {
        PyErr_SetString(PyExc_TypeError, "the key must be bytes");
        return NULL;
    }
    if (size == 0 || (PyBytes_GET_SIZE(key) != KEY_BYTES && PyBytes_GET_SIZE(key) != 0)) {
        PyErr_SetString(PyExc_ValueError, size == 0 ? "nothing received would look like the end"
                                                    : "a masking key is 4 bytes, or none");
        return NULL;
    }
    keep_freed();
    payload = PyBytes_FromStringAndSize(NULL, size);
    if (payload == NULL) {
        return NULL;
    }
    received = wsd_receive(fd, PyBytes_AS_STRING(payload), size);
    if (received <= 0) {
        Py_DECREF(payload);
        return PyLong_FromSsize_t(received);
    }
    if (PyBytes_GET_SIZE(key)) {
        unmask_in_place((unsigned char *)PyBytes_AS_STRING(payload), received,
                        (const unsigned char *)PyBytes_AS_STRING(key), (size_t)offset);
    }
    if (received < size && _PyBytes_Resize(&payload, received) < 0) {
        return NULL;
    }
    return payload;
}

/* -- resting ------------------------------------------------------------------------------------------------------ */

/* rest(microseconds): no longer than that, or until a signal.  The kernel lets sleeps of a thread end up to 50 us late, so
 * that several may end together (PR_SET_TIMERSLACK in prctl(2)); that is put aside for this one. */
static PyObject *native_rest(PyObject *Py_UNUSED(module), PyObject *argument)
{
    struct timespec wanted = {.tv_sec = 0};
    long microseconds;
    int slack;

    if (!PyLong_Check(argument)) {
        PyErr_SetString(PyExc_TypeError, "a rest takes a whole number of microseconds");
        return NULL;
    }
    microseconds = PyLong_AsLong(argument);
    if (microseconds == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (microseconds < 0 || microseconds >= 1000000) {
        PyErr_SetString(PyExc_ValueError, "a rest takes less than a second");
        return NULL;
    }
    wanted.tv_nsec = microseconds * 1000;
    slack = prctl(PR_GET_TIMERSLACK);
    prctl(PR_SET_TIMERSLACK, 1UL);
    Py_BEGIN_ALLOW_THREADS
    nanosleep(&wanted, NULL);
    Py_END_ALLOW_THREADS
    if (slack > 0) {
        prctl(PR_SET_TIMERSLACK, (unsigned long)slack);
    }
    return Py_NewRef(Py_None);
}

/* -- the module --------------------------------------------------------------------------------------------------- */

static PyMethodDef methods[] = {
    {"mask", FAST(native_mask), METH_FASTCALL, PyDoc_STR("mask(data, key, offset=0, /)")},
    {"is_utf8", native_is_utf8, METH_O, PyDoc_STR("is_utf8(data, /)")},
    {"parse", FAST(native_parse), METH_FASTCALL, PyDoc_STR("parse(buffer, size, limit, most, pieces, /)")},
    {"frame", FAST(native_frame), METH_FASTCALL, PyDoc_STR("frame(first, payload, /)")},
    {"receive", FAST(native_receive), METH_FASTCALL, PyDoc_STR("receive(fd, buffer, limit, most, pieces, /)")},
    {"receive_payload", FAST(native_receive_payload), METH_FASTCALL,
     PyDoc_STR("receive_payload(fd, size, key, offset, /)")},
    {"send", FAST(native_send), METH_FASTCALL, PyDoc_STR("send(fd, parts, /)")},
    {"rest", native_rest, METH_O, PyDoc_STR("rest(microseconds, /)")},
    {"serve_events", FAST(wsd_serve_events), METH_FASTCALL, PyDoc_STR("serve_events(events, table, survive, /)")},
    {"serve_writers", FAST(wsd_serve_writers), METH_FASTCALL, PyDoc_STR("serve_writers(writers, survive, /)")},
    {"make_spread", wsd_make_spread, METH_VARARGS, PyDoc_STR("make_spread(wsi, output, budget, open, low_water, /)")},
    {"straighten", FAST(wsd_straighten), METH_FASTCALL, PyDoc_STR("straighten(classes, numbers, log_names, catchable, /)")},
    {"hasten_tls", FAST(wsd_hasten_tls), METH_FASTCALL, PyDoc_STR("hasten_tls(pipe_type, read, write, most, /)")},
    {NULL, NULL, 0, NULL},
};

static int refuse_if_unwanted(PyObject *Py_UNUSED(module))
{
    return wsd_refuse_if_unwanted();
}

/* ISO C has no pointer to a function among the objects; POSIX and CPython do. */
static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)(intptr_t)refuse_if_unwanted},
    {Py_mod_exec, (void *)(intptr_t)wsd_learn_to_speak},
#if PY_VERSION_HEX >= 0x030C0000
    /* _straight.c and _tls.c know the classes of one. */
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "wsd._native",
    .m_doc = PyDoc_STR("See wsd/wire/twin.py and wsd/syscalls.py, which do the same."),
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
