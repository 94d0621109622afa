/*
 * A broadcast's share of each receiver, in C: is it one of the plain case, then the frame goes behind what is set aside
 * for this turn's send.
 *
 * Optional: wsd/spread.py has the same function in Python, which says what it does, and with which the tests hold this
 * one equal.  Whoever is not the plain case is left to Python, with all its checks: that is the answer.
 *
 * What it looks at are slots (__slots__) of classes of ours.  Where in an object they lie is asked of the classes once;
 * that an object is of such a class, and a value of the kind that is expected, is looked at each time.  No Python code
 * runs between the moment when an object is found in a slot and its last use, and the GIL is kept throughout.
 */

#include "_native.h"

#include <structmember.h>

/* -- where the slots are ------------------------------------------------------------------------------------------ */

enum wsi_slot { BUDGET, CONTEXT, IS_LISTED, IS_PLAIN, OPEN_OPCODE, OUTPUT, QUEUE, STATE, WSI_SLOTS };
static const char *const wsi_names[WSI_SLOTS] = {
    "budget", "context", "_is_listed", "_is_plain", "_open_opcode", "_output", "_queue", "_state",
};

enum output_slot { BUFFERS, IS_CHOKED, SIZE, OUTPUT_SLOTS };
static const char *const output_names[OUTPUT_SLOTS] = {"buffers", "is_choked", "size"};

enum budget_slot { MAX_QUEUE_BYTES, BUDGET_SLOTS };
static const char *const budget_names[BUDGET_SLOTS] = {"max_queue_bytes"};

/* Most slots that are looked at in one class. */
enum { MOST_SLOTS = WSI_SLOTS };

/* A class, and how far from its instances' beginning each of the slots is. */
struct layout {
    PyTypeObject *type;
    Py_ssize_t offsets[MOST_SLOTS];
};

/* What `spread` was made with. */
struct world {
    struct layout wsi, output, budget;
    Py_ssize_t open, low_water;
};

static const char WORLD[] = "wsd._native.spread";

/* Finds the slots of a class; 0, or -1 with an exception. */
static int learn(struct layout *layout, PyObject *type, const char *const *names, int count)
{
    if (!PyType_Check(type)) {
        PyErr_SetString(PyExc_TypeError, "a class is wanted");
        return -1;
    }
    for (int i = 0; i < count; i++) {
        PyObject *found = PyObject_GetAttrString(type, names[i]);
        const PyMemberDef *member = NULL;
        if (found == NULL) {
            return -1;
        }
        if (Py_IS_TYPE(found, &PyMemberDescr_Type)) {
            member = ((PyMemberDescrObject *)found)->d_member;
        }
        if (member == NULL || member->type != T_OBJECT_EX || member->offset <= 0) {
            PyErr_Format(PyExc_TypeError, "%s is no slot", names[i]);
            Py_DECREF(found);
            return -1;
        }
        layout->offsets[i] = member->offset;
        Py_DECREF(found);
    }
    Py_INCREF(type);
    layout->type = (PyTypeObject *)type;
    return 0;
}

static PyObject **slot(PyObject *object, const struct layout *layout, int which)
{
    return (PyObject **)(void *)((char *)object + layout->offsets[which]);
}

/* -- one receiver ------------------------------------------------------------------------------------------------- */

/* The value of an int that is within a machine's; anything else, or nothing, is -1, which none of those here may be. */
static Py_ssize_t number(PyObject *value)
{
    Py_ssize_t found;
    if (value == NULL || !PyLong_CheckExact(value)) {
        return -1;
    }
    found = PyLong_AsSsize_t(value);
    if (found == -1 && PyErr_Occurred()) {
        PyErr_Clear();
    }
    return found;
}

/* Reports whether nothing waits in a queue: None, or one that is empty.  Asked first, since a queue of a strange kind
 * may run code of its own. */
static int is_empty(PyObject *queue)
{
    Py_ssize_t size;
    if (queue == NULL || queue == Py_None) {
        return queue != NULL;
    }
    Py_INCREF(queue);
    size = PyObject_Size(queue);
    Py_DECREF(queue);
    if (size < 0) {
        PyErr_Clear();
    }
    return size == 0;
}

/* Reports whether the slot holds a bool, and not nothing yet. */
static int is_bool(PyObject *value)
{
    return value == Py_True || value == Py_False;
}

/* Where the frame can go at once: the receiver's output; NULL if it needs the long way. */
static PyObject *open_output(const struct world *world, PyObject *context, PyObject *wsi, Py_ssize_t *size)
{
    const struct layout *of_wsi = &world->wsi, *of_output = &world->output;
    PyObject *output, *budget, *buffers;

    if (!PyObject_TypeCheck(wsi, of_wsi->type) || !is_empty(*slot(wsi, of_wsi, QUEUE))
        || *slot(wsi, of_wsi, CONTEXT) != context || *slot(wsi, of_wsi, IS_PLAIN) != Py_True
        || !is_bool(*slot(wsi, of_wsi, IS_LISTED)) || number(*slot(wsi, of_wsi, STATE)) != world->open
        || number(*slot(wsi, of_wsi, OPEN_OPCODE)) != 0) {
        return NULL;
    }
    output = *slot(wsi, of_wsi, OUTPUT);
    budget = *slot(wsi, of_wsi, BUDGET);
    if (output == NULL || budget == NULL || !PyObject_TypeCheck(output, of_output->type)
        || !PyObject_TypeCheck(budget, world->budget.type) || *slot(output, of_output, IS_CHOKED) != Py_False) {
        return NULL;
    }
    *size = number(*slot(output, of_output, SIZE));
    buffers = *slot(output, of_output, BUFFERS);
    if (*size < 0 || *size >= world->low_water
        || *size >= number(*slot(budget, &world->budget, MAX_QUEUE_BYTES)) || buffers == NULL
        || !PyList_CheckExact(buffers)) {
        return NULL;
    }
    return output;
}

/* Sets the frame aside for one receiver: 1 if that is done, 0 if it needs the long way, -1 with an exception. */
static int put(const struct world *world, PyObject *context, PyObject *wsi, PyObject *framed, PyObject *listed)
{
    Py_ssize_t size;
    PyObject *output = open_output(world, context, wsi, &size), *sum, **place;

    if (output == NULL) {
        return 0;
    }
    sum = PyLong_FromSsize_t(size + PyBytes_GET_SIZE(framed));
    if (sum == NULL) {
        return -1;
    }
    if (PyList_Append(*slot(output, &world->output, BUFFERS), framed) < 0) {
        Py_DECREF(sum);
        return -1;
    }
    place = slot(output, &world->output, SIZE);
    Py_SETREF(*place, sum); /* an int was there, whose end runs no code */
    place = slot(wsi, &world->wsi, IS_LISTED);
    if (*place == Py_False) {
        Py_INCREF(Py_True);
        Py_SETREF(*place, Py_True);
        return PyList_Append(listed, wsi) < 0 ? -1 : 1;
    }
    return 1;
}

/* -- the functions ------------------------------------------------------------------------------------------------ */

static PyObject *broadcast_spread(PyObject *self, PyObject *const *arguments, Py_ssize_t count)
{
    const struct world *world = PyCapsule_GetPointer(self, WORLD);
    PyObject *receivers, *rest;

    if (world == NULL) {
        return NULL;
    }
    if (count != 4) {
        return PyErr_Format(PyExc_TypeError, "spread takes 4 arguments, not %zd", count);
    }
    if (!PyBytes_Check(arguments[2]) || !PyList_Check(arguments[3])) {
        PyErr_SetString(PyExc_TypeError, "a frame is bytes, and a list takes who is listed");
        return NULL;
    }
    receivers = PySequence_Tuple(arguments[1]); /* ours alone, or one that cannot change */
    rest = receivers != NULL ? PyList_New(0) : NULL;
    for (Py_ssize_t i = 0; rest != NULL && i < PyTuple_GET_SIZE(receivers); i++) {
        PyObject *wsi = PyTuple_GET_ITEM(receivers, i);
        int done = put(world, arguments[0], wsi, arguments[2], arguments[3]);
        if (done < 0 || (!done && PyList_Append(rest, wsi) < 0)) {
            Py_CLEAR(rest);
        }
    }
    Py_XDECREF(receivers);
    return rest;
}

static PyMethodDef spread = {
    "spread", FAST(broadcast_spread), METH_FASTCALL, PyDoc_STR("spread(context, wsis, framed, listed, /)"),
};

static void forget(struct world *world)
{
    Py_XDECREF((PyObject *)world->wsi.type);
    Py_XDECREF((PyObject *)world->output.type);
    Py_XDECREF((PyObject *)world->budget.type);
    PyMem_Free(world);
}

static void forget_capsule(PyObject *capsule)
{
    struct world *world = PyCapsule_GetPointer(capsule, WORLD);
    if (world != NULL) {
        forget(world);
    }
}

/* make_spread(wsi, output, budget, open, low_water): the function for these classes, and these numbers of Python's. */
PyObject *wsd_make_spread(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    struct world *world = PyMem_Calloc(1, sizeof *world);
    PyObject *wsi, *output, *budget, *capsule, *function;

    if (world == NULL) {
        return PyErr_NoMemory();
    }
    if (!PyArg_ParseTuple(arguments, "OOOnn:make_spread", &wsi, &output, &budget, &world->open, &world->low_water)
        || learn(&world->wsi, wsi, wsi_names, WSI_SLOTS) < 0
        || learn(&world->output, output, output_names, OUTPUT_SLOTS) < 0
        || learn(&world->budget, budget, budget_names, BUDGET_SLOTS) < 0) {
        forget(world);
        return NULL;
    }
    capsule = PyCapsule_New(world, WORLD, forget_capsule);
    if (capsule == NULL) {
        forget(world);
        return NULL;
    }
    function = PyCFunction_New(&spread, capsule);
    Py_DECREF(capsule);
    return function;
}
