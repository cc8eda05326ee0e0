/* The head of a request to a backend: see `proxy.handlers.upstream.request_head.Forwarder`. */

#pragma once

#include "lines.h"

/* What a route knows. ``names`` says of names of fields whose values differ each time whether they go
 * on (True) or stay here (False), whatever they say. */
typedef struct {
    PyObject_HEAD
    PyObject *known;     /* dict: a field, the line that a backend gets of it */
    PyObject *blocks;    /* dict: a block of fields, their lines */
    PyObject *names;     /* dict */
    PyObject *last_line; /* which each request gets */
    PyObject *prefix;    /* of the request ids that are made here */
    PyObject *serial;    /* the iterator that their numbers come from */
    PyTypeObject *block_type;
} Forwarder;

/* Fields that stand beside a template, or all of a first head. */
enum { MOST_FORWARDED = 48 };

/* A part of what is made, and what comes behind it. */
typedef struct {
    Word word;
    const char *end;
    Py_ssize_t end_size;
} Part;

static inline void add(Part *parts, int *count, Word word, const char *end)
{
    parts[(*count)++] = (Part){word, end, (Py_ssize_t)strlen(end)};
}

static inline void add_bytes(Part *parts, int *count, PyObject *bytes, const char *end)
{
    add(parts, count, word_of_bytes(bytes), end);
}

static PyObject *joined(const Part *parts, int count)
{
    Py_ssize_t size = 0;
    for (int at = 0; at < count; at++)
        size += parts[at].word.size + parts[at].end_size;
    PyObject *made = PyBytes_FromStringAndSize(NULL, size);
    if (made == NULL)
        return NULL;
    char *to = PyBytes_AS_STRING(made);
    for (int at = 0; at < count; at++) {
        memcpy(to, parts[at].word.text, (size_t)parts[at].word.size);
        to += parts[at].word.size;
        memcpy(to, parts[at].end, (size_t)parts[at].end_size);
        to += parts[at].end_size;
    }
    return made;
}

/* Add the lines of the fields that are no part of a block. 1 when all are known, 0 to decline, -1
 * with an error. */
static int add_fields(const Forwarder *forwarder, PyObject *fields, Part *parts, int *count)
{
    if (!is_list(fields) || PyList_GET_SIZE(fields) > MOST_FORWARDED)
        return 0;
    for (Py_ssize_t at = 0; at < PyList_GET_SIZE(fields); at++) {
        PyObject *field = PyList_GET_ITEM(fields, at);
        if (!PyTuple_CheckExact(field) || PyTuple_GET_SIZE(field) != 2
            || !PyBytes_CheckExact(PyTuple_GET_ITEM(field, 0))
            || !PyBytes_CheckExact(PyTuple_GET_ITEM(field, 1)))
            return 0;
        PyObject *passes = PyDict_GetItemWithError(forwarder->names, PyTuple_GET_ITEM(field, 0));
        if (passes == Py_True) {
            add_bytes(parts, count, PyTuple_GET_ITEM(field, 0), ": ");
            add_bytes(parts, count, PyTuple_GET_ITEM(field, 1), "\r\n");
        } else if (passes == NULL) {
            PyObject *line = PyErr_Occurred() ? NULL : PyDict_GetItemWithError(forwarder->known, field);
            if (!is_bytes(line))
                return PyErr_Occurred() ? -1 : 0;
            add_bytes(parts, count, line, "");
        }
    }
    return 1;
}

/* A new request id; NULL with an error, or without where its number is none. */
static PyObject *new_id(const Forwarder *forwarder)
{
    char buffer[DIGITS];
    Word digits;
    if (next_id(forwarder->serial, buffer, &digits) != 1)
        return NULL;
    Part parts[2];
    int count = 0;
    add_bytes(parts, &count, forwarder->prefix, "-");
    add(parts, &count, digits, "");
    return joined(parts, count);
}

/* head(request, host, framing, prefix, own): ``own`` are the lines that the operator gives. None to
 * decline. */
static PyObject *forwarded_head(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Forwarder *forwarder = (Forwarder *)self;
    if (count != 5 || requests.type == NULL || connections.type == NULL) {
        PyErr_SetString(PyExc_TypeError, "head needs five arguments, and `bind` before");
        return NULL;
    }
    PyObject *request = args[0], *host = args[1], *framing = args[2], *prefix = args[3], *own = args[4];
    if (!Py_IS_TYPE(request, requests.type) || !is_bytes(framing) || !is_bytes(prefix) || !is_bytes(own))
        Py_RETURN_NONE;
    PyObject *connection = get(&requests, request, OF_CONNECTION);
    PyObject *method = get(&requests, request, METHOD), *target = get(&requests, request, TARGET);
    PyObject *authority = get(&requests, request, AUTHORITY), *id = get(&requests, request, ID);
    PyObject *block = get(&requests, request, CACHED);
    if (connection == NULL || !Py_IS_TYPE(connection, connections.type) || !is_bytes(method)
        || !is_bytes(target) || !is_bytes(authority) || !is_bytes(id) || block == NULL
        || get(&requests, request, LOGIN) != Py_None)
        Py_RETURN_NONE;
    PyObject *told = get(&connections, connection, TOLD);
    PyObject *certificate = get(&connections, connection, CLIENT_CERTIFICATE);
    if (told == NULL || !PyTuple_CheckExact(told) || PyTuple_GET_SIZE(told) != 2
        || !is_bytes(PyTuple_GET_ITEM(told, 0)) || !is_bytes(PyTuple_GET_ITEM(told, 1))
        || !is_bytes(certificate) || PyBytes_GET_SIZE(certificate) != 0)
        Py_RETURN_NONE;
    Word told_of = word_of_bytes(PyTuple_GET_ITEM(told, 0)), asked = word_of_bytes(authority);
    if (!is(told_of.text, told_of.size, asked.text, asked.size))
        Py_RETURN_NONE; /* another host than that of the request before */
    if (host == Py_None)
        host = authority;
    else if (!is_bytes(host))
        Py_RETURN_NONE;
    PyObject *block_lines = empty;
    if (block != Py_None) {
        if (!Py_IS_TYPE(block, forwarder->block_type))
            Py_RETURN_NONE;
        block_lines = PyDict_GetItemWithError(forwarder->blocks, block);
        if (!is_bytes(block_lines)) {
            if (PyErr_Occurred())
                return NULL;
            Py_RETURN_NONE;
        }
    }
    Part parts[2 * MOST_FORWARDED + 12];
    int used = 0;
    add_bytes(parts, &used, method, " ");
    if (!is(PyBytes_AS_STRING(target), PyBytes_GET_SIZE(target), "*", 1))
        add_bytes(parts, &used, prefix, "");
    add_bytes(parts, &used, target, " HTTP/1.1\r\nhost: ");
    add_bytes(parts, &used, host, "\r\n");
    int known = add_fields(forwarder, get(&requests, request, UNCACHED), parts, &used);
    if (known < 0)
        return NULL;
    if (!known)
        Py_RETURN_NONE;
    add_bytes(parts, &used, block_lines, "");
    add_bytes(parts, &used, own, "");
    add_bytes(parts, &used, forwarder->last_line, "");
    add_bytes(parts, &used, PyTuple_GET_ITEM(told, 1), "x-request-id: ");
    if (PyBytes_GET_SIZE(id) == 0) {
        /* Nothing of what is held above changes by it: numbers come from `itertools.count`. */
        id = new_id(forwarder);
        if (id == NULL) {
            if (PyErr_Occurred())
                return NULL;
            Py_RETURN_NONE;
        }
        put(&requests, request, ID, id);
    }
    add_bytes(parts, &used, id, "\r\n");
    add_bytes(parts, &used, framing, "\r\n");
    return joined(parts, used);
}

static void end_forwarder(PyObject *self)
{
    Forwarder *forwarder = (Forwarder *)self;
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(forwarder->known);
    Py_XDECREF(forwarder->blocks);
    Py_XDECREF(forwarder->names);
    Py_XDECREF(forwarder->last_line);
    Py_XDECREF(forwarder->prefix);
    Py_XDECREF(forwarder->serial);
    Py_XDECREF(forwarder->block_type);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef forwarder_methods[] = {
    {"head", (PyCFunction)(void (*)(void))forwarded_head, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot forwarder_parts[] = {
    {Py_tp_dealloc, end_forwarder},
    {Py_tp_methods, forwarder_methods},
    {0, NULL},
};

static PyType_Spec forwarder_spec = {
    .name = "lane.Forwarder",
    .basicsize = sizeof(Forwarder),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = forwarder_parts,
};
static PyTypeObject *forwarder_type;

/* forwarder(known, blocks, names, block class, last line, prefix of ids, serial): one with the method
 * `head`. ``serial`` is an `itertools.count`. */
static PyObject *forwarder(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 7 || !PyDict_CheckExact(args[0]) || !PyDict_CheckExact(args[1])
        || !PyDict_CheckExact(args[2]) || !PyType_Check(args[3]) || !PyBytes_CheckExact(args[4])
        || !PyBytes_CheckExact(args[5]) || strcmp(Py_TYPE(args[6])->tp_name, "itertools.count") != 0) {
        PyErr_SetString(PyExc_TypeError,
                        "forwarder needs three dicts, a class, two bytes and an itertools.count");
        return NULL;
    }
    Forwarder *made = (Forwarder *)forwarder_type->tp_alloc(forwarder_type, 0);
    if (made != NULL) {
        made->known = Py_NewRef(args[0]);
        made->blocks = Py_NewRef(args[1]);
        made->names = Py_NewRef(args[2]);
        made->block_type = (PyTypeObject *)Py_NewRef(args[3]);
        made->last_line = Py_NewRef(args[4]);
        made->prefix = Py_NewRef(args[5]);
        made->serial = Py_NewRef(args[6]);
    }
    return (PyObject *)made;
}
