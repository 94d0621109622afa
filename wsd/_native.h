/* What the parts of the extensions have in common; what each function does is said where it is. */

#ifndef WSD_NATIVE_H
#define WSD_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdlib.h>
#include <string.h>

/* By way of void (*)(void), which a compiler that is asked to warn lets pass: CPython casts it back by the flags. */
#define FAST(function) ((PyCFunction)(void (*)(void))(function))

enum { OPCODE_BITS = 0x0F, OPCODE_TEXT = 1, OPCODE_BINARY = 2, FIN = 0x80 };

/* WSD_PURE=1 has wsd run without the extensions.  Asked for in this place, since those who import them are pure and know
 * no environment: 0, or -1 with an ImportError. */
static inline int wsd_refuse_if_unwanted(void)
{
    const char *pure = getenv("WSD_PURE");
    if (pure == NULL || *pure == '\0' || strcmp(pure, "0") == 0) {
        return 0;
    }
    PyErr_SetString(PyExc_ImportError, "WSD_PURE is set");
    return -1;
}

/* _native.c */
Py_ssize_t wsd_parse(const unsigned char *bytes, Py_ssize_t size, Py_ssize_t limit, Py_ssize_t most, PyObject *pieces);
PyObject *wsd_next(const unsigned char *bytes, Py_ssize_t size, Py_ssize_t limit, long *opcode, Py_ssize_t *taken);
PyObject *wsd_frame(unsigned char first, const char *payload, Py_ssize_t size);
Py_ssize_t wsd_receive(int fd, char *buffer, Py_ssize_t size);
int wsd_send(int fd, PyObject *parts, Py_ssize_t *sent);

/* _broadcast.c */
PyObject *wsd_make_spread(PyObject *module, PyObject *arguments);

/* _straight.c */
PyObject *wsd_straighten(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *wsd_serve_events(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *wsd_serve_writers(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
int wsd_learn_to_speak(PyObject *module);

/* _tls.c */
PyObject *wsd_hasten_tls(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
int wsd_tls_ready(PyObject *pipe);
PyObject *wsd_tls_tell(PyObject *object, PyObject *name, int answer, int number);
Py_ssize_t wsd_tls_receive(PyObject *pipe, char *buffer, Py_ssize_t size, int *answer);
int wsd_tls_send(PyObject *pipe, PyObject *parts, int *sent);

#endif
