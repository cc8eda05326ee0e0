/* The accelerated lane: the few functions that a profile of a small request names.
 *
 * Each of them is a second form of a Python function, and keeps one rule: for every input it either
 * declines (returns None) or returns exactly what the Python function would. So it may be simple. It
 * declines whatever is rare, never raises for what a peer has sent, and keeps no state beside what
 * the `bind` functions were given. `proxy.accelerated` chooses between the forms, and the fuzzers hold
 * the two together.
 *
 * What is hard here is memory, so the means are few. All bytes come from objects of Python's, which
 * are immutable and know their length. No pointer moves without a comparison with the end. There is
 * no buffer of our own but one of fixed size for numbers. Objects are read through the slots of their
 * classes, whose places the classes themselves tell (`find_slots`); an object of any other class is
 * declined. Every value that a slot gives is checked for its type before it is used.
 *
 *     slots.h       the classes, and how objects are read and made
 *     heads.h       plain_head
 *     lines.h       text_line, json_line
 *     gatherer.h    gatherer
 *     forwarding.h  forwarder
 *     making.h      maker
 *     answers.h     plain_answer
 *     tls.h         shake, disable_auto_retry, close_notify
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memmem */
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "slots.h"
#include "heads.h"
#include "lines.h"
#include "gatherer.h"
#include "forwarding.h"
#include "making.h"
#include "answers.h"
#include "tls.h"

/* exchange(connection, request, started): a new `proxy.protocol.exchange.Exchange`. */
static PyObject *exchange(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || exchanges.type == NULL) {
        PyErr_SetString(PyExc_TypeError, "exchange needs three arguments, and `bind` before");
        return NULL;
    }
    PyObject *made = copy_of(&exchanges, exchange_pattern);
    if (made != NULL) {
        put(&exchanges, made, E_CONNECTION, Py_NewRef(args[0]));
        put(&exchanges, made, E_REQUEST, Py_NewRef(args[1]));
        put(&exchanges, made, STARTED, Py_NewRef(args[2]));
    }
    return made;
}

/* Binding */

static int take_pattern(const Slots *slots, PyObject *pattern, PyObject **kept)
{
    if (!Py_IS_TYPE(pattern, slots->type)) {
        PyErr_SetString(PyExc_TypeError, "a pattern is not of its class");
        return -1;
    }
    Py_XSETREF(*kept, Py_NewRef(pattern));
    return 0;
}

/* bind_messages(exchange, connection class, response class): ``exchange`` and its request are as they
 * are made by Python. */
static PyObject *bind_messages(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "bind_messages needs an exchange and two classes");
        return NULL;
    }
    if (find_slots((PyObject *)Py_TYPE(args[0]), exchange_slots, COUNT(exchange_slots), &exchanges) < 0
        || take_pattern(&exchanges, args[0], &exchange_pattern) < 0
        || find_slots(args[1], connection_slots, COUNT(connection_slots), &connections) < 0
        || find_slots(args[2], response_slots, COUNT(response_slots), &responses) < 0)
        return NULL;
    PyObject *request = get(&exchanges, args[0], E_REQUEST);
    if (request == NULL) {
        PyErr_SetString(PyExc_TypeError, "the exchange has no request");
        return NULL;
    }
    if (find_slots((PyObject *)Py_TYPE(request), request_slots, COUNT(request_slots), &requests) < 0
        || take_pattern(&requests, request, &request_pattern) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* bind_templates(class, spellings): ``spellings`` maps spellings of field names to names. */
static PyObject *bind_templates(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyDict_CheckExact(args[1]) || PyDict_GET_SIZE(args[1]) > MOST_SPELLINGS) {
        PyErr_SetString(PyExc_TypeError, "bind_templates needs a class and spellings");
        return NULL;
    }
    if (find_slots(args[0], template_slots, COUNT(template_slots), &templates) < 0)
        return NULL;
    PyObject *spelt, *name;
    Py_ssize_t place = 0;
    spelling_count = 0;
    while (PyDict_Next(args[1], &place, &spelt, &name)) {
        if (!PyBytes_CheckExact(spelt) || !PyBytes_CheckExact(name)) {
            PyErr_SetString(PyExc_TypeError, "spellings are bytes");
            return NULL;
        }
        Py_XSETREF(spellings[spelling_count].spelt, Py_NewRef(spelt));
        Py_XSETREF(spellings[spelling_count].name, Py_NewRef(name));
        spelling_count++;
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"bind_messages", (PyCFunction)(void (*)(void))bind_messages, METH_FASTCALL, NULL},
    {"bind_templates", (PyCFunction)(void (*)(void))bind_templates, METH_FASTCALL, NULL},
    {"plain_head", (PyCFunction)(void (*)(void))plain_head, METH_FASTCALL, NULL},
    {"exchange", (PyCFunction)(void (*)(void))exchange, METH_FASTCALL, NULL},
    {"text_line", (PyCFunction)(void (*)(void))text_line, METH_FASTCALL, NULL},
    {"json_line", (PyCFunction)(void (*)(void))json_line, METH_FASTCALL, NULL},
    {"gatherer", (PyCFunction)(void (*)(void))gatherer, METH_FASTCALL, NULL},
    {"forwarder", (PyCFunction)(void (*)(void))forwarder, METH_FASTCALL, NULL},
    {"bind_answers", (PyCFunction)(void (*)(void))bind_answers, METH_FASTCALL, NULL},
    {"plain_answer", (PyCFunction)(void (*)(void))plain_answer, METH_FASTCALL, NULL},
    {"maker", (PyCFunction)(void (*)(void))maker, METH_FASTCALL, NULL},
    {"bind_openssl", (PyCFunction)(void (*)(void))bind_openssl, METH_FASTCALL, NULL},
    {"shake", shake, METH_O, NULL},
    {"disable_auto_retry", disable_auto_retry, METH_O, NULL},
    {"close_notify", close_notify, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "lane",
    .m_size = -1, /* one interpreter */
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit_lane(void)
{
    for (int place = 0; place < METHOD_COUNT; place++) {
        methods[place] = PyBytes_FromString(method_names[place]);
        if (methods[place] == NULL)
            return NULL;
    }
    empty = PyBytes_FromStringAndSize(NULL, 0);
    zero = PyLong_FromLong(0);
    content_length = PyBytes_FromString("content-length");
    gatherer_type = (PyTypeObject *)PyType_FromSpec(&gatherer_spec);
    forwarder_type = (PyTypeObject *)PyType_FromSpec(&forwarder_spec);
    maker_type = (PyTypeObject *)PyType_FromSpec(&maker_spec);
    if (empty == NULL || zero == NULL || content_length == NULL || gatherer_type == NULL
        || forwarder_type == NULL || maker_type == NULL)
        return NULL;
    PyObject *module = PyModule_Create(&definition);
    /* Of this file and of what calls it; `proxy.accelerated` has the same number. */
    if (module != NULL && PyModule_AddIntConstant(module, "REVISION", 6) < 0)
        Py_CLEAR(module);
    return module;
}
