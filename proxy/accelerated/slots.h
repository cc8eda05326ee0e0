/* Objects are read and made through the slots of their classes, whose places the classes tell. */

#pragma once

#include <Python.h>
#include <structmember.h>
#include <string.h>

#define COUNT(array) ((Py_ssize_t)(sizeof(array) / sizeof(array[0])))

typedef struct {
    PyTypeObject *type;
    Py_ssize_t *at; /* in the order of the names that were asked for */
    Py_ssize_t count;
} Slots;

static void forget_slots(Slots *slots)
{
    PyMem_Free(slots->at);
    Py_CLEAR(slots->type);
    slots->at = NULL;
    slots->count = 0;
}

/* Where the slots of these names are in objects of a class; -1 with TypeError for a class that is
 * not as it should be. */
static int find_slots(PyObject *type, const char *const *names, Py_ssize_t count, Slots *found)
{
    if (!PyType_Check(type)) {
        PyErr_SetString(PyExc_TypeError, "a class was expected");
        return -1;
    }
    Py_ssize_t *at = PyMem_New(Py_ssize_t, count);
    if (at == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    Py_ssize_t size = ((PyTypeObject *)type)->tp_basicsize;
    for (Py_ssize_t place = 0; place < count; place++) {
        PyObject *descriptor = PyObject_GetAttrString(type, names[place]);
        if (descriptor == NULL) {
            PyMem_Free(at);
            return -1;
        }
        int good = Py_IS_TYPE(descriptor, &PyMemberDescr_Type);
        if (good) {
            PyMemberDef *member = ((PyMemberDescrObject *)descriptor)->d_member;
            good = member->type == T_OBJECT_EX && !(member->flags & READONLY)
                && member->offset >= (Py_ssize_t)sizeof(PyObject)
                && member->offset <= size - (Py_ssize_t)sizeof(PyObject *);
            at[place] = member->offset;
        }
        Py_DECREF(descriptor);
        if (!good) {
            PyMem_Free(at);
            PyErr_Format(PyExc_TypeError, "%s is no slot", names[place]);
            return -1;
        }
    }
    forget_slots(found);
    found->type = (PyTypeObject *)Py_NewRef(type);
    found->at = at;
    found->count = count;
    return 0;
}

/* What a slot holds: borrowed, NULL where it is empty. The object is of exactly that class. */
static inline PyObject *get(const Slots *slots, PyObject *object, int place)
{
    return *(PyObject **)((char *)object + slots->at[place]);
}

/* Put a value into a slot; steals the reference. What is in it must not run code of Python's when it
 * goes. */
static inline void put(const Slots *slots, PyObject *object, int place, PyObject *value)
{
    PyObject **slot = (PyObject **)((char *)object + slots->at[place]);
    PyObject *old = *slot;
    *slot = value;
    Py_XDECREF(old);
}

/* A new object with what the slots of another of its class hold. */
static PyObject *copy_of(const Slots *slots, PyObject *pattern)
{
    PyObject *made = slots->type->tp_alloc(slots->type, 0);
    if (made != NULL) {
        for (Py_ssize_t place = 0; place < slots->count; place++) {
            *(PyObject **)((char *)made + slots->at[place]) = Py_XNewRef(get(slots, pattern, (int)place));
        }
    }
    return made;
}

/* The classes. Each list begins with the slots that are used here by name, in the same order. */

enum {
    METHOD, TARGET, PATH, QUERY, AUTHORITY, HOST, FIELDS, UNCACHED, CACHED, OF_CONNECTION, ID, SPOKEN, LOGIN
};
static const char *const request_slots[] = {
    "method", "target", "path", "query", "authority", "host", "fields", "uncached_fields",
    "cached_fields", "connection", "id", "version", "login",
    /* and what else a new request has */
    "body", "matched", "upgrade", "expects_continue", "inform", "backend",
};

enum { TEMPLATES, NAMED_IN_LOG, PROXIES, PEER, TLS, TOLD, CLIENT_CERTIFICATE };
static const char *const connection_slots[] = {
    "protocol_state", "named_in_log", "proxies", "peer", "tls_version", "told", "client_certificate",
};

enum { BEFORE, BETWEEN, AFTER, BEFORE_FIELDS, BETWEEN_FIELDS, AFTER_FIELDS, BLOCK, NAMES, HOST_KNOWN };
static const char *const template_slots[] = {
    "before", "between", "after", "before_fields", "between_fields", "after_fields", "block", "names",
    "host",
};

enum { E_CONNECTION, E_REQUEST, STARTED, RESPONSE, SENT, E_ERROR, DURATION };
static const char *const exchange_slots[] = {
    "connection", "request", "started", "response", "sent", "error", "duration",
    "match", "partial", "tunnel", "user", "for_filters", "cookies",
};

enum { STATUS, HANDLER, R_BACKEND, R_ERROR };
static const char *const response_slots[] = {"status", "handler", "backend", "error"};

static Slots requests, connections, templates, exchanges, responses;
static PyObject *request_pattern, *exchange_pattern; /* new ones, made by Python */

static inline int is(const char *text, Py_ssize_t size, const char *other, Py_ssize_t other_size)
{
    return size == other_size && memcmp(text, other, (size_t)size) == 0;
}

static inline int is_bytes(PyObject *object)
{
    return object != NULL && PyBytes_CheckExact(object);
}

static inline int is_list(PyObject *object)
{
    return object != NULL && PyList_CheckExact(object);
}

static inline PyObject **items(PyObject *list)
{
    return ((PyListObject *)list)->ob_item;
}

static PyObject *empty, *zero; /* b"" and 0 */
