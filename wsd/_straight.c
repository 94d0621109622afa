/*
 * The hot methods of wsd/straight.py, in C: what a plain message costs is mostly the interpreter's way through them.
 *
 * Each does what the method of the same name does there, in the case that is plain from beginning to end, and calls
 * that method for every other: so there is no policy here that is not there, and `tests/unit/test_straight.py` plays
 * every conversation on both.  The state of a connection stays in the slots of its Python object, where all else finds
 * it; this file reads and writes them in place, by the offsets that their descriptors tell (`straighten`), after it has
 * looked at the type of the object.
 *
 * Hooks run Python code, which can do anything: no pointer into an object is kept over one, but references are.
 */

#include "_native.h"

#include <errno.h>
#include <structmember.h>

/* The classes, and of each the slots that are used here, by the names that they have in Python. */

enum { WSI_ASKED, WSI_ANSWERS, WSI_BACKLOG, WSI_BINDING, WSI_CONTEXT, WSI_DELIVERING, WSI_FINAL, WSI_BINARY, WSI_HELD,
       WSI_HOLD, WSI_LAST_READ, WSI_LISTED, WSI_OPEN_OPCODE, WSI_OUTPUT, WSI_OWED, WSI_PARSER, WSI_PIECE, WSI_PIPE,
       WSI_PLAIN, WSI_PONG, WSI_QUEUE, WSI_STATE, WSI_WRITING };
enum { PARSER_BOUND, PARSER_PLAIN };
enum { OUTPUT_BUFFERS, OUTPUT_CHOKED, OUTPUT_SIZE, OUTPUT_TAKEN };
enum { PIPE_FD };
enum { BINDING_HOOKS };
enum { HOOKS_MESSAGE, HOOKS_RECEIVE, HOOKS_WRITEABLE };
enum { COUNTERS_RECEIVED, COUNTERS_SENT };
enum { LOOP_SERVING, LOOP_WRITERS, LOOP_BUFFER, LOOP_COUNTERS, LOOP_DEEP, LOOP_NOW };

enum { MOST_SLOTS = 24 };

struct kind {
    const char *names[MOST_SLOTS];
    PyTypeObject *type;
    Py_ssize_t offsets[MOST_SLOTS];
};

enum { WSI, PARSER, OUTPUT, PIPE, BINDING, HOOKS, COUNTERS, LOOP, KINDS };

static struct kind kinds[KINDS] = {
    {.names = {"_is_asked", "_has_answers", "_backlog", "binding", "context", "_is_delivering", "is_final_fragment",
               "frame_is_binary", "held", "_hold", "_last_read", "_is_listed", "_open_opcode", "_output", "_owed",
               "_parser", "_piece", "_pipe", "_is_plain", "_pong", "_queue", "_state", "_is_writing"}},
    {.names = {"bound", "is_plain"}},
    {.names = {"buffers", "is_choked", "size", "taken"}},
    {.names = {"_fd"}},
    {.names = {"hooks"}},
    {.names = {"on_message", "on_receive", "on_writeable"}},
    {.names = {"bytes_received", "bytes_sent"}},
    {.names = {"_is_serving", "_writers", "buffer", "counters", "is_deep", "now"}},
};

/* What the Python side has as constants, in the order in which `straighten` gets them. */
enum { READ, OPEN, COPY_BYTES, LOW_WATER, PIECES_PER_TURN, DEEP_READ, LOG_PARSER, NUMBERS };
static long numbers[NUMBERS];
static PyObject *open_state, *zero;
static PyObject *whole_piece; /* a piece that is a message; the payload in it is nobody's */

/* The names of the methods, and the methods of straight.py. */
enum { ON_OPEN_EVENTS, ON_PIPE_EVENTS, CALLBACK_ON_WRITABLE, WRITE, OFFER, SEND, SERVICE_WRITE, METHODS };
static PyObject *twins[METHODS];

static PyObject *log_names, *catchable; /* the log's globals, and what a hook may raise */

/* What is called by name, made once. */
enum { SAY_END_OF_INPUT, SAY_DELIVER_ON, SAY_AFTER_SEND, SAY_NOTE_SENT, SAY_HOOK_RAISED,
       SAY_HOOK_ANSWERED, SAY_NOTE_WRITER, SAY_BROKE, SAY_SHOWN, SAY_ON_RECEIVE, SAY_ON_MESSAGE, SAY_ON_WRITEABLE,
       SAY_SERVICE_WRITE, SAY_FLUSH_ON, SAY_LOOK_AT_PIPE, SAY_NOTE_ANSWER, SAYINGS };
static const char *const saying[SAYINGS] = {
    "_end_of_input", "_deliver_on", "_after_send", "note_sent", "_hook_raised",
    "_hook_answered", "note_writer", "_broke", "shown", "on_receive", "on_message", "on_writeable",
    "service_write", "_flush_on", "_look_at_pipe", "note_answer",
};
static PyObject *said[SAYINGS];

static PyMethodDef methods[METHODS];

/* -- slots -------------------------------------------------------------------------------------------------------- */

static PyObject **place(PyObject *object, int kind, int slot)
{
    return (PyObject **)((char *)object + kinds[kind].offsets[slot]);
}

/* What a slot holds, borrowed; None if nothing was put there yet. */
static PyObject *get(PyObject *object, int kind, int slot)
{
    PyObject *value = *place(object, kind, slot);
    return value != NULL ? value : Py_None;
}

/* Takes over the reference; -1 with an exception if there is none. */
static int put(PyObject *object, int kind, int slot, PyObject *value)
{
    PyObject **at = place(object, kind, slot), *before = *at;
    if (value == NULL) {
        return -1;
    }
    *at = value;
    Py_XDECREF(before);
    return 0;
}

static void put_bool(PyObject *object, int kind, int slot, int value)
{
    put(object, kind, slot, Py_NewRef(value ? Py_True : Py_False));
}

static int is_true(PyObject *object, int kind, int slot)
{
    return get(object, kind, slot) == Py_True;
}

static int is_none(PyObject *object, int kind, int slot)
{
    return get(object, kind, slot) == Py_None;
}

/* Whether a slot holds a small number that straighten() was given, or 0: of these CPython has one object each, and where
 * it had more, the twin would be called for nothing, and nothing else. */
static int is_number(PyObject *object, int kind, int slot, PyObject *wanted)
{
    return get(object, kind, slot) == wanted;
}

/* The number in a slot; -1, which none of them ever is, for anything else. */
static Py_ssize_t number(PyObject *object, int kind, int slot)
{
    PyObject *value = get(object, kind, slot);
    Py_ssize_t answer = PyLong_Check(value) ? PyLong_AsSsize_t(value) : -1;
    if (answer == -1) {
        PyErr_Clear();
    }
    return answer;
}

static int add_number(PyObject *object, int kind, int slot, Py_ssize_t more)
{
    PyObject *value = get(object, kind, slot);
    long long before = PyLong_Check(value) ? PyLong_AsLongLong(value) : 0;
    if (before == -1 && PyErr_Occurred()) {
        return -1;
    }
    return put(object, kind, slot, PyLong_FromLongLong(before + more));
}

/* What a slot holds if it is of exactly that kind, borrowed; else NULL, without an exception. */
static PyObject *get_kind(PyObject *object, int kind, int slot, int wanted)
{
    PyObject *value = get(object, kind, slot);
    return Py_IS_TYPE(value, kinds[wanted].type) ? value : NULL;
}

/* The pipe, borrowed, if it is a socket's, or one under TLS that is as usual; else NULL. */
static PyObject *get_pipe(PyObject *wsi)
{
    PyObject *pipe = get(wsi, WSI, WSI_PIPE);
    return Py_IS_TYPE(pipe, kinds[PIPE].type) || wsd_tls_ready(pipe) ? pipe : NULL;
}

/* The context, borrowed, if it is a loop that runs a turn; else NULL. */
static PyObject *serving_context(PyObject *wsi)
{
    PyObject *context = get(wsi, WSI, WSI_CONTEXT);
    return Py_IS_TYPE(context, kinds[LOOP].type) && is_true(context, LOOP, LOOP_SERVING) ? context : NULL;
}

static PyObject *hooks_of(PyObject *wsi)
{
    PyObject *binding = get_kind(wsi, WSI, WSI_BINDING, BINDING);
    return binding == NULL ? NULL : get_kind(binding, BINDING, BINDING_HOOKS, HOOKS);
}

/* -- calls -------------------------------------------------------------------------------------------------------- */

/* Calls a method that answers nothing of interest: 0, or -1 with an exception. */
static int call(PyObject *object, int name, PyObject *first, PyObject *second)
{
    PyObject *arguments[] = {object, first, second};
    size_t count = first == NULL ? 1 : second == NULL ? 2 : 3;
    PyObject *answer = PyObject_VectorcallMethod(said[name], arguments, count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_XDECREF(answer);
    return answer == NULL ? -1 : 0;
}

/* `_deliver_on`: 0, or -1 with an exception. */
static int deliver_on(PyObject *self, PyObject *parser, Py_ssize_t count, Py_ssize_t at, Py_ssize_t size)
{
    PyObject *arguments[] = {
        self, parser, PyLong_FromSsize_t(count), PyLong_FromSsize_t(at), PyLong_FromSsize_t(size)};
    PyObject *answer = NULL;
    if (arguments[2] != NULL && arguments[3] != NULL && arguments[4] != NULL) {
        answer = PyObject_VectorcallMethod(said[SAY_DELIVER_ON], arguments, 5, NULL);
    }
    for (int i = 2; i < 5; i++) {
        Py_XDECREF(arguments[i]);
    }
    Py_XDECREF(answer);
    return answer == NULL ? -1 : 0;
}

/* What the method of straight.py answers. */
static PyObject *by_twin(int method, PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    PyObject *all[8] = {self}; /* no method has that many */
    Py_ssize_t total = count + (names == NULL ? 0 : PyTuple_GET_SIZE(names));
    if (total > 7) {
        PyErr_Format(PyExc_TypeError, "%zd arguments are too many", total);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < total; i++) {
        all[1 + i] = arguments[i];
    }
    return PyObject_Vectorcall(twins[method], all, (size_t)(count + 1), names);
}

/* The exception that was raised, which is none any more. */
static PyObject *take_error(void)
{
    PyObject *kind, *error, *trace;
    PyErr_Fetch(&kind, &error, &trace);
    PyErr_NormalizeException(&kind, &error, &trace);
    if (trace != NULL) {
        PyException_SetTraceback(error, trace);
    }
    Py_XDECREF(kind);
    Py_XDECREF(trace);
    return error;
}

/* A hook of the plugin was called: 1 and it went well, 0 and it raised, which is dealt with; -1 with an exception. */
static int judge(PyObject *self, int hook, PyObject *answer)
{
    PyObject *error;
    int result = 1;

    if (answer == Py_None) {
        Py_DECREF(answer);
        return 1;
    }
    if (answer != NULL) {
        int is_something = PyObject_IsTrue(answer);
        if (is_something > 0) {
            result = call(self, SAY_HOOK_ANSWERED, said[hook], answer) < 0 ? -1 : 1;
        } else if (is_something < 0) {
            result = -1;
        }
        Py_DECREF(answer);
        return result;
    }
    if (!PyErr_ExceptionMatches(catchable)) {
        return -1;
    }
    error = take_error();
    result = call(self, SAY_HOOK_RAISED, said[hook], error) < 0 ? -1 : 0;
    Py_DECREF(error);
    return result;
}

/* -- writing ------------------------------------------------------------------------------------------------------ */

/* Puts the wsi on the list for the write pass: 0, or -1 with an exception. */
static int list_once(PyObject *self)
{
    PyObject *context = serving_context(self), *writers;
    if (is_true(self, WSI, WSI_LISTED)) {
        return 0;
    }
    put_bool(self, WSI, WSI_LISTED, 1);
    if (context == NULL) { /* outside of a turn it may have to be roused */
        return call(get(self, WSI, WSI_CONTEXT), SAY_NOTE_WRITER, self, NULL);
    }
    writers = get(context, LOOP, LOOP_WRITERS);
    return PyList_CheckExact(writers) ? PyList_Append(writers, self) : call(context, SAY_NOTE_WRITER, self, NULL);
}

static PyObject *callback_on_writable(PyObject *self, PyObject *Py_UNUSED(nothing))
{
    if (!is_number(self, WSI, WSI_STATE, open_state)) {
        return by_twin(CALLBACK_ON_WRITABLE, self, NULL, 0, NULL);
    }
    put_bool(self, WSI, WSI_ASKED, 1);
    if (is_true(self, WSI, WSI_DELIVERING)) {
        put_bool(self, WSI, WSI_ANSWERS, 1);
    }
    return list_once(self) < 0 ? NULL : Py_NewRef(zero);
}

/* A message that needs no second look: its bytes, and how it begins; 0 for any other. */
static int is_simple(PyObject *message, const char **bytes, Py_ssize_t *size, long *opcode)
{
    if (PyBytes_CheckExact(message)) {
        *bytes = PyBytes_AS_STRING(message);
        *size = PyBytes_GET_SIZE(message);
        *opcode = OPCODE_BINARY;
        return 1;
    }
    if (PyUnicode_CheckExact(message) && PyUnicode_IS_COMPACT_ASCII(message)) {
        *bytes = (const char *)PyUnicode_1BYTE_DATA(message);
        *size = PyUnicode_GET_LENGTH(message);
        *opcode = OPCODE_TEXT;
        return *size <= numbers[COPY_BYTES];
    }
    return 0;
}

/* Sets a frame aside for this turn's send: 0, or -1 with an exception.  A payload that is not worth a copy, which is
 * one of bytes, is kept by reference. */
static int set_aside(PyObject *output, PyObject *message, long opcode, const char *bytes, Py_ssize_t size)
{
    PyObject *buffers = get(output, OUTPUT, OUTPUT_BUFFERS), *frame;
    int is_large = size > numbers[COPY_BYTES], failed;

    if (!PyList_CheckExact(buffers)) {
        PyErr_SetString(PyExc_TypeError, "the buffers of an output are a list");
        return -1;
    }
    frame = wsd_frame((unsigned char)(FIN | opcode), is_large ? NULL : bytes, size);
    if (frame == NULL) {
        return -1;
    }
    size = PyBytes_GET_SIZE(frame) + (is_large ? size : 0);
    failed = PyList_Append(buffers, frame) < 0 || (is_large && PyList_Append(buffers, message) < 0);
    Py_DECREF(frame);
    return failed ? -1 : add_number(output, OUTPUT, OUTPUT_SIZE, size);
}

/* What `write` and `offer` are given: its bytes and its opcode, if it is a whole message that needs no second look, on a
 * connection that is plain and open and has no other message open; else 0. */
static int is_whole(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names, const char **bytes,
                    Py_ssize_t *size, long *opcode)
{
    if (names != NULL || count < 1 || count > 3 || !is_true(self, WSI, WSI_PLAIN)
        || !is_number(self, WSI, WSI_STATE, open_state) || !is_number(self, WSI, WSI_OPEN_OPCODE, zero)
        || !is_simple(arguments[0], bytes, size, opcode) || (count == 3 && arguments[2] != Py_True)) {
        return 0;
    }
    if (count > 1 && arguments[1] != Py_None) {
        *opcode = PyLong_CheckExact(arguments[1]) ? PyLong_AsLong(arguments[1]) : 0;
        PyErr_Clear(); /* of a number that is too large; the twin says what is wrong with it */
    }
    return *opcode == OPCODE_TEXT || *opcode == OPCODE_BINARY;
}

static PyObject *write_(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    PyObject *output = get_kind(self, WSI, WSI_OUTPUT, OUTPUT);
    const char *bytes;
    Py_ssize_t size;
    long opcode;

    if (output == NULL || !is_true(self, WSI, WSI_WRITING)
        || !is_whole(self, arguments, count, names, &bytes, &size, &opcode)) {
        return by_twin(WRITE, self, arguments, count, names);
    }
    return set_aside(output, arguments[0], opcode, bytes, size) < 0 ? NULL : Py_NewRef(zero);
}

static PyObject *offer(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names)
{
    PyObject *output = get_kind(self, WSI, WSI_OUTPUT, OUTPUT);
    const char *bytes;
    Py_ssize_t size, waits;
    long opcode;

    /* A queue that is there may be empty; the twin looks. */
    if (output == NULL || get(self, WSI, WSI_QUEUE) != Py_None || get(output, OUTPUT, OUTPUT_CHOKED) != Py_False
        || (waits = number(output, OUTPUT, OUTPUT_SIZE)) < 0 || waits >= numbers[LOW_WATER]
        || !is_whole(self, arguments, count, names, &bytes, &size, &opcode)) {
        return by_twin(OFFER, self, arguments, count, names);
    }
    if (set_aside(output, arguments[0], opcode, bytes, size) < 0 || list_once(self) < 0) {
        return NULL;
    }
    return Py_NewRef(Py_True);
}

static PyObject *send_(PyObject *self, PyObject *message)
{
    PyObject *output = get_kind(self, WSI, WSI_OUTPUT, OUTPUT), *queue = get(self, WSI, WSI_QUEUE);
    const char *bytes;
    Py_ssize_t size;
    long opcode;

    /* A queue that is there may be empty; the twin looks. */
    if (output == NULL || queue != Py_None || !is_true(self, WSI, WSI_PLAIN)
        || !is_number(self, WSI, WSI_STATE, open_state) || !is_number(self, WSI, WSI_OPEN_OPCODE, zero)
        || get(output, OUTPUT, OUTPUT_CHOKED) != Py_False || !is_number(output, OUTPUT, OUTPUT_SIZE, zero)
        || !is_simple(message, &bytes, &size, &opcode) || size > numbers[COPY_BYTES]) {
        return by_twin(SEND, self, &message, 1, NULL);
    }
    if (set_aside(output, message, opcode, bytes, size) < 0 || list_once(self) < 0) {
        return NULL;
    }
    return Py_NewRef(zero);
}

/* One `on_writeable`: 0, or -1 with an exception. */
static int ask_plugin(PyObject *self, PyObject *hooks)
{
    PyObject *hook = Py_NewRef(get(hooks, HOOKS, HOOKS_WRITEABLE));
    Py_ssize_t owed = number(self, WSI, WSI_OWED);
    int went;

    put_bool(self, WSI, WSI_ASKED, 0);
    if (owed > 0 && put(self, WSI, WSI_OWED, PyLong_FromSsize_t(owed - 1)) < 0) {
        Py_DECREF(hook);
        return -1;
    }
    if (hook == Py_None) {
        Py_DECREF(hook);
        return 0;
    }
    put_bool(self, WSI, WSI_WRITING, 1);
    PyObject *answer = PyObject_CallOneArg(hook, self);
    if (answer != NULL) {
        put_bool(self, WSI, WSI_WRITING, 0);
    }
    went = judge(self, SAY_ON_WRITEABLE, answer);
    Py_DECREF(hook);
    if (went < 0) {
        return -1;
    }
    if (!is_true(self, WSI, WSI_ASKED)) {
        put_bool(self, WSI, WSI_ANSWERS, 0);
        return put(self, WSI, WSI_OWED, Py_NewRef(zero));
    }
    return 0;
}

/* Everything that waited was taken: 1, or -1 with an exception. */
static int all_sent(PyObject *output, PyObject *counters, Py_ssize_t sent)
{
    PyObject *buffers = get(output, OUTPUT, OUTPUT_BUFFERS);
    int failed = PyList_SetSlice(buffers, 0, PyList_GET_SIZE(buffers), NULL) < 0
                 || put(output, OUTPUT, OUTPUT_SIZE, Py_NewRef(zero)) < 0
                 || add_number(output, OUTPUT, OUTPUT_TAKEN, sent) < 0
                 || add_number(counters, COUNTERS, COUNTERS_SENT, sent) < 0;
    return failed ? -1 : 1;
}

/* `flush` by way of OpenSSL: what it does not take whole, and what it says of that, is for `_flush_on`. */
static int flush_tls(PyObject *self, PyObject *output, PyObject *pipe, PyObject *counters)
{
    PyObject *answer;
    Py_ssize_t size = number(output, OUTPUT, OUTPUT_SIZE);
    int sent = 1, reason = 0, went;

    if (wsd_tls_ready(pipe) && is_number(self, WSI, WSI_HELD, zero)
        && wsd_tls_send(pipe, get(output, OUTPUT, OUTPUT_BUFFERS), &sent)) {
        reason = errno;
        if (sent == size) {
            return all_sent(output, counters, sent);
        }
    }
    answer = wsd_tls_tell(self, said[SAY_FLUSH_ON], sent, reason);
    went = answer == NULL ? -1 : answer == Py_True;
    Py_XDECREF(answer);
    return went;
}

/* Gives the kernel what waits: 1 and it took all, 0 and the rest of the write pass is not due; -1 with an exception. */
static int flush(PyObject *self, PyObject *output, PyObject *pipe, PyObject *counters)
{
    PyObject *buffers = get(output, OUTPUT, OUTPUT_BUFFERS), *argument;
    Py_ssize_t size = number(output, OUTPUT, OUTPUT_SIZE), sent = 0;
    int failed;

    if (!Py_IS_TYPE(pipe, kinds[PIPE].type)) {
        return flush_tls(self, output, pipe, counters);
    }
    if (wsd_send((int)number(pipe, PIPE, PIPE_FD), buffers, &sent) < 0) {
        return -1;
    }
    if (sent == size && is_number(self, WSI, WSI_HELD, zero)) {
        return all_sent(output, counters, sent);
    }
    argument = PyLong_FromSsize_t(sent);
    if (argument == NULL) {
        return -1;
    }
    if (sent < 0) {
        failed = call(self, SAY_BROKE, argument, NULL);
    } else {
        failed = call(output, SAY_NOTE_SENT, argument, NULL) < 0 || call(self, SAY_AFTER_SEND, argument, NULL) < 0;
    }
    Py_DECREF(argument);
    return failed ? -1 : sent == size;
}

static PyObject *service_write(PyObject *self, PyObject *Py_UNUSED(nothing))
{
    PyObject *output = get_kind(self, WSI, WSI_OUTPUT, OUTPUT), *pipe = get_pipe(self);
    PyObject *queue = get(self, WSI, WSI_QUEUE), *context = serving_context(self), *hooks = hooks_of(self);
    PyObject *counters = context == NULL ? NULL : get_kind(context, LOOP, LOOP_COUNTERS, COUNTERS);
    int went = 1;

    if (output == NULL || pipe == NULL || counters == NULL || hooks == NULL || queue != Py_None
        || !is_none(self, WSI, WSI_PONG) || !is_number(self, WSI, WSI_STATE, open_state)
        || !is_true(self, WSI, WSI_PLAIN) || get(output, OUTPUT, OUTPUT_CHOKED) != Py_False
        || !PyList_CheckExact(get(output, OUTPUT, OUTPUT_BUFFERS)) || number(output, OUTPUT, OUTPUT_SIZE) < 0) {
        return by_twin(SERVICE_WRITE, self, NULL, 0, NULL);
    }
    Py_INCREF(output);
    Py_INCREF(pipe);
    Py_INCREF(counters);
    put_bool(self, WSI, WSI_LISTED, 0);
    if (is_true(self, WSI, WSI_ASKED) && number(output, OUTPUT, OUTPUT_SIZE) < numbers[LOW_WATER]
        && ask_plugin(self, hooks) < 0) {
        went = -1;
    }
    if (went > 0 && number(output, OUTPUT, OUTPUT_SIZE) > 0) {
        went = flush(self, output, pipe, counters);
    }
    if (went > 0 && is_true(self, WSI, WSI_ASKED) && list_once(self) < 0) {
        went = -1;
    }
    Py_DECREF(output);
    Py_DECREF(pipe);
    Py_DECREF(counters);
    return went < 0 ? NULL : Py_NewRef(Py_None);
}

/* -- receiving ---------------------------------------------------------------------------------------------------- */

/* Gives one whole message to the plugin: as `judge`. */
static int deliver(PyObject *self, PyObject *on_receive, PyObject *on_message, long opcode, PyObject *payload)
{
    PyObject *arguments[] = {self, payload}, *text, *answer;

    if (on_receive != Py_None) {
        put(self, WSI, WSI_PIECE, Py_NewRef(whole_piece));
        put_bool(self, WSI, WSI_BINARY, opcode == OPCODE_BINARY);
        put_bool(self, WSI, WSI_FINAL, 1);
        return judge(self, SAY_ON_RECEIVE, PyObject_Vectorcall(on_receive, arguments, 2, NULL));
    }
    if (opcode == OPCODE_BINARY) {
        return judge(self, SAY_ON_MESSAGE, PyObject_Vectorcall(on_message, arguments, 2, NULL));
    }
    text = PyUnicode_DecodeUTF8(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), NULL);
    if (text == NULL) {
        return -1;
    }
    arguments[1] = text;
    answer = PyObject_Vectorcall(on_message, arguments, 2, NULL);
    Py_DECREF(text);
    return judge(self, SAY_ON_MESSAGE, answer);
}

/* Gives plain messages to the plugin, from index `*at` of what is in the buffer, as long as it wants them and the turn
 * allows: how many, or -1 with an exception.  Nobody else writes to the buffer meanwhile; but a hook could do anything,
 * so where it lies is asked anew for each message. */
static Py_ssize_t deliver_plain(PyObject *self, PyObject *hooks, PyObject *buffer, Py_ssize_t size, Py_ssize_t bound,
                                Py_ssize_t *at)
{
    PyObject *on_receive = Py_NewRef(get(hooks, HOOKS, HOOKS_RECEIVE));
    PyObject *on_message = Py_NewRef(get(hooks, HOOKS, HOOKS_MESSAGE));
    Py_ssize_t count = 0, taken = 0;
    long opcode = 0;
    int went = 1;

    while (went > 0 && *at < size && size <= PyByteArray_GET_SIZE(buffer) && count < numbers[PIECES_PER_TURN]) {
        const unsigned char *bytes = (const unsigned char *)PyByteArray_AS_STRING(buffer) + *at;
        PyObject *payload = wsd_next(bytes, size - *at, bound, &opcode, &taken);
        if (payload == NULL) {
            went = PyErr_Occurred() ? -1 : 0;
            break;
        }
        *at += taken;
        count++;
        went = deliver(self, on_receive, on_message, opcode, payload);
        Py_DECREF(payload);
        if (!is_number(self, WSI, WSI_HOLD, zero) || !is_number(self, WSI, WSI_STATE, open_state)) {
            break;
        }
    }
    Py_DECREF(on_receive);
    Py_DECREF(on_message);
    return went < 0 ? -1 : count;
}

/* Whether the log shows what the parser makes of what it reads; -1 with an exception. */
static int is_logged(void)
{
    PyObject *shown = PyDict_GetItemWithError(log_names, said[SAY_SHOWN]);
    long bits = shown == NULL ? 0 : PyLong_AsLong(shown);
    return PyErr_Occurred() ? -1 : (bits & numbers[LOG_PARSER]) != 0;
}

/* `size` bytes came, and somebody wants them: 0, or -1 with an exception. */
static int take(PyObject *self, PyObject *context, PyObject *parser, PyObject *hooks, PyObject *buffer, Py_ssize_t size,
                Py_ssize_t bound)
{
    int is_long = is_none(hooks, HOOKS, HOOKS_RECEIVE) && is_none(hooks, HOOKS, HOOKS_MESSAGE) ? 1 : is_logged();
    Py_ssize_t at = 0, count = 0;
    PyObject *output;

    if (is_long < 0) {
        return -1;
    }
    if (!is_long) {
        put_bool(self, WSI, WSI_DELIVERING, 1);
        count = deliver_plain(self, hooks, buffer, size, bound, &at);
        if (count < 0) {
            return -1;
        }
        if (count >= numbers[DEEP_READ]) {
            put_bool(context, LOOP, LOOP_DEEP, 1);
        }
        put(self, WSI, WSI_PIECE, Py_NewRef(Py_None));
        put_bool(self, WSI, WSI_BINARY, 0);
        put_bool(self, WSI, WSI_FINAL, 0);
        put_bool(self, WSI, WSI_DELIVERING, 0);
        output = get_kind(self, WSI, WSI_OUTPUT, OUTPUT);
        if (at == size && is_number(self, WSI, WSI_STATE, open_state) && output != NULL
            && get(output, OUTPUT, OUTPUT_CHOKED) == Py_False) {
            return is_true(self, WSI, WSI_ANSWERS) ? add_number(self, WSI, WSI_OWED, count) : 0;
        }
    }
    return deliver_on(self, parser, count, at, size);
}

static PyObject *on_open_events(PyObject *self, PyObject *mask)
{
    PyObject *parser = get_kind(self, WSI, WSI_PARSER, PARSER), *pipe = get_pipe(self);
    PyObject *context = serving_context(self), *hooks = hooks_of(self), *argument;
    PyObject *counters = context == NULL ? NULL : get_kind(context, LOOP, LOOP_COUNTERS, COUNTERS);
    PyObject *buffer = context == NULL ? NULL : get(context, LOOP, LOOP_BUFFER);
    Py_ssize_t size, bound;
    int failed = 0, answer = 0;

    if (parser == NULL || pipe == NULL || hooks == NULL || counters == NULL || !PyByteArray_CheckExact(buffer)
        || !PyLong_Check(mask) || PyLong_AsLong(mask) != numbers[READ] || !is_number(self, WSI, WSI_STATE, open_state)
        || !is_true(self, WSI, WSI_PLAIN) || !is_number(self, WSI, WSI_HOLD, zero) || !is_none(self, WSI, WSI_BACKLOG)
        || !is_true(parser, PARSER, PARSER_PLAIN) || (bound = number(parser, PARSER, PARSER_BOUND)) < 0
        || PyByteArray_GET_SIZE(buffer) == 0) {
        PyErr_Clear(); /* of a mask that is no number of ours */
        return by_twin(ON_OPEN_EVENTS, self, &mask, 1, NULL);
    }
    if (Py_IS_TYPE(pipe, kinds[PIPE].type)) {
        size = wsd_receive((int)number(pipe, PIPE, PIPE_FD), PyByteArray_AS_STRING(buffer), PyByteArray_GET_SIZE(buffer));
    } else {
        size = wsd_tls_receive(pipe, PyByteArray_AS_STRING(buffer), PyByteArray_GET_SIZE(buffer), &answer);
        if (size == 0) { /* the twin goes on from here */
            argument = wsd_tls_tell(pipe, said[SAY_NOTE_ANSWER], answer, errno);
            if (argument == NULL) {
                return NULL;
            }
            Py_DECREF(argument);
            return by_twin(ON_OPEN_EVENTS, self, &mask, 1, NULL);
        }
    }
    if (size == -1) {
        return Py_NewRef(Py_None);
    }
    if (size <= 0) {
        argument = PyLong_FromSsize_t(size + 1);
        failed = argument == NULL || (size == 0 ? call(self, SAY_END_OF_INPUT, NULL, NULL)
                                                : call(self, SAY_BROKE, argument, NULL)) < 0;
        Py_XDECREF(argument);
        return failed ? NULL : Py_NewRef(Py_None);
    }
    if (put(self, WSI, WSI_LAST_READ, Py_NewRef(get(context, LOOP, LOOP_NOW))) < 0
        || add_number(counters, COUNTERS, COUNTERS_RECEIVED, size) < 0) {
        return NULL;
    }
    Py_INCREF(parser);
    Py_INCREF(hooks);
    Py_INCREF(buffer);
    failed = take(self, context, parser, hooks, buffer, size, bound) < 0;
    Py_DECREF(buffer);
    Py_DECREF(hooks);
    Py_DECREF(parser);
    return failed ? NULL : Py_NewRef(Py_None);
}

static PyObject *on_pipe_events(PyObject *self, PyObject *mask)
{
    PyObject *answer;
    if (!is_true(self, WSI, WSI_PLAIN) || !wsd_tls_ready(get(self, WSI, WSI_PIPE))) {
        return by_twin(ON_PIPE_EVENTS, self, &mask, 1, NULL);
    }
    answer = on_open_events(self, mask);
    /* What its owner has to look at makes a pipe unready. */
    if (answer != NULL && !wsd_tls_ready(get(self, WSI, WSI_PIPE)) && call(self, SAY_LOOK_AT_PIPE, NULL, NULL) < 0) {
        Py_CLEAR(answer);
    }
    return answer;
}

/* -- the loop ----------------------------------------------------------------------------------------------------- */

/* A function of the loop's raised: has `survive(function, error)` deal with it, unless it is no Exception, as what
 * KeyboardInterrupt is; 0, or -1 with an exception. */
static int survived(PyObject *survive, PyObject *function)
{
    PyObject *error, *answer;
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return -1;
    }
    error = take_error();
    PyObject *arguments[] = {function, error};
    answer = PyObject_Vectorcall(survive, arguments, 2, NULL);
    Py_DECREF(error);
    Py_XDECREF(answer);
    return answer == NULL ? -1 : 0;
}

static int check_loop(const char *name, PyObject *const *arguments, Py_ssize_t count, Py_ssize_t wanted)
{
    if (count == wanted && PyList_Check(arguments[0]) && (count < 3 || PyDict_Check(arguments[1]))) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s takes a list%s, and a function", name, wanted == 3 ? ", a dict" : "");
    return -1;
}

PyObject *wsd_serve_events(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    PyObject *events = arguments[0];
    if (check_loop("serve_events", arguments, count, 3) < 0) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(events); i++) {
        PyObject *event = Py_NewRef(PyList_GET_ITEM(events, i)), *function, *answer = NULL;
        int failed = 0;
        if (!PyTuple_Check(event) || PyTuple_GET_SIZE(event) != 2) {
            PyErr_SetString(PyExc_TypeError, "an event is a descriptor and a mask");
            Py_DECREF(event);
            return NULL;
        }
        function = PyDict_GetItemWithError(arguments[1], PyTuple_GET_ITEM(event, 0));
        if (function != NULL) {
            Py_INCREF(function);
            answer = PyObject_CallOneArg(function, PyTuple_GET_ITEM(event, 1));
            failed = answer == NULL && survived(arguments[2], function) < 0;
            Py_DECREF(function);
            Py_XDECREF(answer);
        } else if (PyErr_Occurred()) {
            failed = 1;
        }
        Py_DECREF(event);
        if (failed) {
            return NULL;
        }
    }
    return Py_NewRef(Py_None);
}

/* Whether `service_write` of such an object is the function above: looked up once, and anew when the class changes. */
static int writes_here(PyTypeObject *type)
{
    static PyTypeObject *known;
    static unsigned int version;
    static int answer;
    PyObject *found;

    if (type == known && version != 0 && type->tp_version_tag == version) {
        return answer;
    }
    found = PyObject_GetAttr((PyObject *)type, said[SAY_SERVICE_WRITE]);
    if (found == NULL) {
        PyErr_Clear(); /* the call says so */
        return 0;
    }
    answer = Py_IS_TYPE(found, &PyMethodDescr_Type) && ((PyMethodDescrObject *)found)->d_method == &methods[SERVICE_WRITE];
    known = type;
    version = type->tp_version_tag;
    Py_DECREF(found);
    return answer;
}

PyObject *wsd_serve_writers(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    PyObject *writers = arguments[0];
    if (check_loop("serve_writers", arguments, count, 2) < 0) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(writers); i++) {
        PyObject *wsi = Py_NewRef(PyList_GET_ITEM(writers, i));
        PyObject *answer, *method;
        int failed = 0;

        answer = writes_here(Py_TYPE(wsi)) ? service_write(wsi, NULL)
                                           : PyObject_CallMethodNoArgs(wsi, said[SAY_SERVICE_WRITE]);
        if (answer == NULL) {
            PyObject *kind, *error, *trace;
            PyErr_Fetch(&kind, &error, &trace);
            method = PyObject_GetAttr(wsi, said[SAY_SERVICE_WRITE]);
            PyErr_Restore(kind, error, trace);
            failed = method == NULL || survived(arguments[1], method) < 0;
            Py_XDECREF(method);
        }
        Py_XDECREF(answer);
        Py_DECREF(wsi);
        if (failed) {
            return NULL;
        }
    }
    return Py_NewRef(Py_None);
}

/* -- putting them in their place ---------------------------------------------------------------------------------- */

static PyMethodDef methods[METHODS] = {
    {"on_open_events", on_open_events, METH_O, PyDoc_STR("on_open_events($self, mask)\n--\n\n`on_events`, in C.")},
    {"on_pipe_events", on_pipe_events, METH_O, PyDoc_STR("on_pipe_events($self, mask)\n--\n\nAs of wsd.stream.Stream, in C.")},
    {"callback_on_writable", callback_on_writable, METH_NOARGS,
     PyDoc_STR("callback_on_writable($self)\n--\n\nAs of wsd.sender.Sender, in C.")},
    {"write", FAST(write_), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("write($self, data, opcode=None, final=True)\n--\n\nAs of wsd.sender.Sender, in C.")},
    {"offer", FAST(offer), METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("offer($self, data, opcode=None, final=True)\n--\n\nAs of wsd.straight.Straight, in C.")},
    {"send", send_, METH_O, PyDoc_STR("send($self, message)\n--\n\nAs of wsd.sender.Sender, in C.")},
    {"service_write", service_write, METH_NOARGS,
     PyDoc_STR("service_write($self)\n--\n\nAs of wsd.straight.Straight, in C.")},
};

/* Finds out where the slots of a class are: 0, or -1 with an exception. */
static int learn(struct kind *kind, PyObject *type)
{
    if (!PyType_Check(type)) {
        PyErr_SetString(PyExc_TypeError, "straighten() takes classes");
        return -1;
    }
    for (int i = 0; i < MOST_SLOTS && kind->names[i] != NULL; i++) {
        PyObject *found = PyObject_GetAttrString(type, kind->names[i]);
        PyMemberDef *member = found != NULL && Py_IS_TYPE(found, &PyMemberDescr_Type)
                                  ? ((PyMemberDescrObject *)found)->d_member : NULL;
        if (member == NULL || member->type != T_OBJECT_EX) {
            PyErr_Format(PyExc_TypeError, "%R has no slot %s", type, kind->names[i]);
            Py_XDECREF(found);
            return -1;
        }
        kind->offsets[i] = member->offset;
        Py_DECREF(found);
    }
    kind->type = (PyTypeObject *)Py_NewRef(type);
    return 0;
}

/* What is said is made once, with the module: 0, or -1 with an exception. */
int wsd_learn_to_speak(PyObject *Py_UNUSED(module))
{
    zero = PyLong_FromLong(0);
    for (int i = 0; i < SAYINGS; i++) {
        said[i] = PyUnicode_InternFromString(saying[i]);
        if (said[i] == NULL) {
            return -1;
        }
    }
    return zero == NULL ? -1 : 0;
}

/* straighten(classes, numbers, log_names, catchable): from now on these methods of the first class run here.  Once. */
PyObject *wsd_straighten(PyObject *Py_UNUSED(module), PyObject *const *arguments, Py_ssize_t count)
{
    if (count != 4 || !PyTuple_Check(arguments[0]) || PyTuple_GET_SIZE(arguments[0]) != KINDS
        || !PyTuple_Check(arguments[1]) || PyTuple_GET_SIZE(arguments[1]) != NUMBERS || !PyDict_Check(arguments[2])
        || !PyTuple_Check(arguments[3])) {
        PyErr_SetString(PyExc_TypeError, "straighten() takes classes, numbers, the names of the log, and exceptions");
        return NULL;
    }
    if (log_names != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "straighten() was called before");
        return NULL;
    }
    for (int i = 0; i < KINDS; i++) {
        if (learn(&kinds[i], PyTuple_GET_ITEM(arguments[0], i)) < 0) {
            return NULL;
        }
    }
    for (int i = 0; i < NUMBERS; i++) {
        numbers[i] = PyLong_AsLong(PyTuple_GET_ITEM(arguments[1], i));
        if (numbers[i] == -1 && PyErr_Occurred()) {
            return NULL;
        }
    }
    for (int i = 0; i < METHODS; i++) {
        PyObject *type = PyTuple_GET_ITEM(arguments[0], WSI), *method;
        twins[i] = PyObject_GetAttrString(type, methods[i].ml_name);
        method = twins[i] == NULL ? NULL : PyDescr_NewMethod((PyTypeObject *)type, &methods[i]);
        if (method == NULL || PyObject_SetAttrString(type, methods[i].ml_name, method) < 0) {
            Py_XDECREF(method);
            return NULL;
        }
        Py_DECREF(method);
    }
    whole_piece = Py_BuildValue("(iyOOi)", OPCODE_BINARY, "", Py_True, Py_True, 0);
    if (whole_piece == NULL) {
        return NULL;
    }
    open_state = Py_NewRef(PyTuple_GET_ITEM(arguments[1], OPEN));
    log_names = Py_NewRef(arguments[2]);
    catchable = Py_NewRef(arguments[3]);
    return Py_NewRef(Py_None);
}
