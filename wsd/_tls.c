/*
 * OpenSSL's reading and writing for wsd/tls.py, in C: what a small message costs there is mostly the way through cffi
 * and through Python's part of a pipe.
 *
 * This file is not linked to any OpenSSL.  The one that there is came with the package cryptography and is inside of
 * it; `hasten_tls` is told the addresses of two of its functions, as cffi has them, with their types checked there.
 * A pipe tells the address of its own object in the slot `_quick` as long as nothing is out of the ordinary: open, at no
 * end, nothing held back, nothing crossed.  It is an int, 0 otherwise, and the pipe owns what it points to: to take
 * that from it is to set it to 0 first.
 *
 * Only what went well is dealt with here.  Whatever else OpenSSL answers goes to the pipe's Python methods at once,
 * with errno as it was and before anybody else asks OpenSSL for anything, so that SSL_get_error tells what it means.
 */

#include "_native.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <structmember.h>

/* RFC 8446 5.1: "The length MUST NOT exceed 2^14 bytes"; one record is all that OpenSSL reads or writes at a time. */
enum { RECORD_BYTES = 16384 };

typedef struct ssl_st SSL;

static int (*ssl_read)(SSL *, void *, int);
static int (*ssl_write)(SSL *, const void *, int);

static PyTypeObject *pipe_type;  /* wsd.tls.TlsPipe */
static Py_ssize_t quick_offset;  /* of its slot `_quick` */
static Py_ssize_t most_frames;

/* The methods that do the same in Python, and those that go on where OpenSSL's answer is no bytes. */
enum { RECEIVE_FRAMES, SEND_MANY, METHODS };
static PyObject *twins[METHODS];
static PyObject *say_note_answer, *say_send_on;

/* -- OpenSSL's object --------------------------------------------------------------------------------------------- */

/* That of a pipe which is as usual; NULL, without an exception, for any other object. */
static SSL *quick_ssl(PyObject *pipe)
{
    PyObject *address;
    void *ssl;

    if (pipe_type == NULL || !Py_IS_TYPE(pipe, pipe_type)) {
        return NULL;
    }
    address = *(PyObject **)((char *)pipe + quick_offset);
    if (address == NULL || !PyLong_CheckExact(address)) {
        return NULL;
    }
    ssl = PyLong_AsVoidPtr(address);
    if (ssl == NULL) {
        PyErr_Clear();
    }
    return ssl;
}

/* Reports whether the two below may be called. */
int wsd_tls_ready(PyObject *pipe)
{
    return quick_ssl(pipe) != NULL;
}

/* Reads one record.  Answers how many bytes came, if it had fewer than a record can have and left room: then there is
 * most likely no more.  0 for all else: `answer` is what OpenSSL said, for `note_answer`, with errno. */
Py_ssize_t wsd_tls_receive(PyObject *pipe, char *buffer, Py_ssize_t size, int *answer)
{
    int room = size > INT_MAX ? INT_MAX : (int)size;
    errno = 0;
    *answer = ssl_read(quick_ssl(pipe), buffer, room);
    return *answer > 0 && *answer < RECORD_BYTES && *answer < room ? *answer : 0;
}

/* What fits into one record, in one piece; 0 if it does not, or holds something else than bytes. */
static Py_ssize_t join(PyObject *parts, char *joined)
{
    Py_ssize_t size = 0;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(parts); i++) {
        PyObject *part = PyList_GET_ITEM(parts, i);
        if (!PyBytes_CheckExact(part) || PyBytes_GET_SIZE(part) > RECORD_BYTES - size) {
            return 0;
        }
        memcpy(joined + size, PyBytes_AS_STRING(part), (size_t)PyBytes_GET_SIZE(part));
        size += PyBytes_GET_SIZE(part);
    }
    return size;
}

/* Sends all parts in one record.  1 and `sent` is how many bytes went, or what else OpenSSL answered, for `send_on`,
 * with errno; 0 and nothing was tried: it is nothing for one record. */
int wsd_tls_send(PyObject *pipe, PyObject *parts, int *sent)
{
    char joined[RECORD_BYTES];
    const char *bytes = joined;
    Py_ssize_t size;

    if (PyList_GET_SIZE(parts) == 1 && PyBytes_CheckExact(PyList_GET_ITEM(parts, 0))) {
        bytes = PyBytes_AS_STRING(PyList_GET_ITEM(parts, 0));
        size = PyBytes_GET_SIZE(PyList_GET_ITEM(parts, 0));
    } else {
        size = join(parts, joined);
    }
    if (size == 0 || size > RECORD_BYTES) {
        return 0;
    }
    errno = 0;
    *sent = ssl_write(quick_ssl(pipe), bytes, (int)size);
    return 1;
}

/* -- the methods -------------------------------------------------------------------------------------------------- */

static PyObject *by_twin(int method, PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    PyObject *all[4] = {self};
    if (count > 3) {
        PyErr_Format(PyExc_TypeError, "%zd arguments are too many", count);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        all[1 + i] = arguments[i];
    }
    return PyObject_Vectorcall(twins[method], all, (size_t)(count + 1), NULL);
}

/* Calls a method with what OpenSSL has answered, and errno. */
PyObject *wsd_tls_tell(PyObject *object, PyObject *name, int answer, int number)
{
    PyObject *all[3] = {object, PyLong_FromLong(answer), PyLong_FromLong(number)}, *result = NULL;
    if (all[1] != NULL && all[2] != NULL) {
        result = PyObject_VectorcallMethod(name, all, 3, NULL);
    }
    Py_XDECREF(all[1]);
    Py_XDECREF(all[2]);
    return result;
}

static PyObject *receive_frames(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    Py_ssize_t limit, size, taken;
    Py_buffer buffer;
    int answer, number;

    if (count != 3 || quick_ssl(self) == NULL || !PyLong_Check(arguments[1]) || !PyList_Check(arguments[2])) {
        return by_twin(RECEIVE_FRAMES, self, arguments, count);
    }
    limit = PyLong_AsSsize_t(arguments[1]);
    if (limit < 0) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "limit is negative");
        }
        return NULL;
    }
    if (PyObject_GetBuffer(arguments[0], &buffer, PyBUF_WRITABLE) < 0) {
        return NULL;
    }
    if (buffer.len == 0) {
        PyBuffer_Release(&buffer);
        PyErr_SetString(PyExc_ValueError, "an empty buffer: nothing received would look like the end");
        return NULL;
    }
    size = wsd_tls_receive(self, buffer.buf, buffer.len, &answer);
    number = errno;
    if (size == 0) {
        PyObject *noted;
        PyBuffer_Release(&buffer);
        noted = wsd_tls_tell(self, say_note_answer, answer, number);
        if (noted == NULL) {
            return NULL;
        }
        Py_DECREF(noted);
        return by_twin(RECEIVE_FRAMES, self, arguments, count);
    }
    taken = wsd_parse(buffer.buf, size, limit, most_frames, arguments[2]);
    PyBuffer_Release(&buffer);
    return taken < 0 ? NULL : Py_BuildValue("nn", size, taken);
}

static PyObject *send_many(PyObject *self, PyObject *parts)
{
    int sent = 0;
    if (!PyList_CheckExact(parts) || quick_ssl(self) == NULL || !wsd_tls_send(self, parts, &sent)) {
        return by_twin(SEND_MANY, self, &parts, 1);
    }
    return sent > 0 ? PyLong_FromLong(sent) : wsd_tls_tell(self, say_send_on, sent, errno);
}

static PyMethodDef methods[METHODS] = {
    {"receive_frames", FAST(receive_frames), METH_FASTCALL, PyDoc_STR("receive_frames($self, buffer, limit, pieces, /)")},
    {"send_many", send_many, METH_O, PyDoc_STR("send_many($self, buffers, /)")},
};

/* -- what they are told ------------------------------------------------------------------------------------------- */

/* Where an object of that type has its slot `_quick`; -1 with an exception. */
static Py_ssize_t find_slot(PyObject *type)
{
    PyObject *slot = PyObject_GetAttrString(type, "_quick");
    Py_ssize_t offset = -1;
    if (slot == NULL) {
        return -1;
    }
    if (Py_IS_TYPE(slot, &PyMemberDescr_Type) && ((PyMemberDescrObject *)slot)->d_member->type == T_OBJECT_EX) {
        offset = ((PyMemberDescrObject *)slot)->d_member->offset;
    } else {
        PyErr_SetString(PyExc_TypeError, "_quick is no slot");
    }
    Py_DECREF(slot);
    return offset;
}

/* Puts a method in the place of the class's own, which becomes its twin. */
static int replace(PyObject *type, int at)
{
    PyObject *method = PyDescr_NewMethod((PyTypeObject *)type, &methods[at]);
    int failed;
    twins[at] = PyObject_GetAttrString(type, methods[at].ml_name);
    failed = method == NULL || twins[at] == NULL || PyObject_SetAttrString(type, methods[at].ml_name, method) < 0;
    Py_XDECREF(method);
    return failed ? -1 : 0;
}

/* hasten_tls(TlsPipe, address of SSL_read, address of SSL_write, most frames): once. */
PyObject *wsd_hasten_tls(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    uintptr_t addresses[2];
    Py_ssize_t offset, most;

    if (count != 4 || !PyType_Check(arguments[0])) {
        PyErr_SetString(PyExc_TypeError, "hasten_tls() takes a class, two addresses and a number");
        return NULL;
    }
    if (pipe_type != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "hasten_tls() was called before");
        return NULL;
    }
    for (int i = 0; i < 2; i++) {
        addresses[i] = (uintptr_t)PyLong_AsVoidPtr(arguments[1 + i]);
        if (addresses[i] == 0) {
            if (!PyErr_Occurred()) {
                PyErr_SetString(PyExc_ValueError, "no function has the address 0");
            }
            return NULL;
        }
    }
    most = PyLong_AsSsize_t(arguments[3]);
    if (most < 0) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "a negative number");
        }
        return NULL;
    }
    offset = find_slot(arguments[0]);
    say_note_answer = PyUnicode_InternFromString("note_answer");
    say_send_on = PyUnicode_InternFromString("send_on");
    if (offset < 0 || say_note_answer == NULL || say_send_on == NULL) {
        return NULL;
    }
    /* POSIX has it that a function's address and a pointer are as wide as one another (dlsym). */
    memcpy(&ssl_read, &addresses[0], sizeof ssl_read);
    memcpy(&ssl_write, &addresses[1], sizeof ssl_write);
    most_frames = most;
    quick_offset = offset;
    for (int i = 0; i < METHODS; i++) {
        if (replace(arguments[0], i) < 0) {
            return NULL;
        }
    }
    pipe_type = (PyTypeObject *)Py_NewRef(arguments[0]);
    return Py_NewRef(Py_None);
}
