/* What the parts of the extension have in common; what each function does is said where it is. */

#ifndef WSD_NATIVE_H
#define WSD_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* By way of void (*)(void), which a compiler that is asked to warn lets pass: CPython casts it back by the flags. */
#define FAST(function) ((PyCFunction)(void (*)(void))(function))

/* _native.c */
Py_ssize_t wsd_parse(const unsigned char *bytes, Py_ssize_t size, Py_ssize_t limit, Py_ssize_t most, PyObject *pieces);

/* _tls.c */
PyObject *wsd_hasten_tls(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
int wsd_tls_ready(PyObject *pipe);
Py_ssize_t wsd_tls_receive(PyObject *pipe, char *buffer, Py_ssize_t size, int *answer);
int wsd_tls_send(PyObject *pipe, PyObject *parts, int *sent);

#endif
