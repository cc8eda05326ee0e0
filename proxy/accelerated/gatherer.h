/* Gathers lines: see `proxy.worker.access_log.AcceleratedAccessLog`. */

#pragma once

#include <time.h>

#include "lines.h"

/* The text of this millisecond, borrowed; NULL with an error. */
static PyObject *moment_of(Gatherer *gatherer)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    long long millisecond = (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    if (gatherer->moment == NULL || gatherer->millisecond != millisecond) {
        PyObject *said = PyObject_CallFunction(gatherer->say, "Li", (long long)now.tv_sec,
                                               (int)(now.tv_nsec / 1000000));
        if (said == NULL)
            return NULL;
        Py_XSETREF(gatherer->moment, said);
        gatherer->millisecond = millisecond;
    }
    return gatherer->moment;
}

/* gather(exchange): append its line to the list. How many lines it then has; 0 to decline. */
static PyObject *gather(PyObject *self, PyObject *finished)
{
    Gatherer *gatherer = (Gatherer *)self;
    if (exchanges.type == NULL || requests.type == NULL) {
        PyErr_SetString(PyExc_TypeError, "gather needs `bind` before");
        return NULL;
    }
    PyObject *moment = moment_of(gatherer);
    if (moment == NULL)
        return NULL;
    Py_INCREF(moment);
    PyObject *line = gatherer->json ? json_line_of(moment, finished, gatherer->prefix, gatherer)
                                    : text_line_of(moment, finished, gatherer->prefix, gatherer);
    Py_DECREF(moment);
    if (line == NULL)
        return PyErr_Occurred() ? NULL : Py_NewRef(zero);
    int failed = PyList_Append(gatherer->lines, line);
    Py_DECREF(line);
    return failed ? NULL : PyLong_FromSsize_t(PyList_GET_SIZE(gatherer->lines));
}

static void end_gatherer(PyObject *self)
{
    Gatherer *gatherer = (Gatherer *)self;
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(gatherer->lines);
    Py_XDECREF(gatherer->serial);
    Py_XDECREF(gatherer->prefix);
    Py_XDECREF(gatherer->say);
    Py_XDECREF(gatherer->moment);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef gatherer_methods[] = {
    {"gather", gather, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot gatherer_parts[] = {
    {Py_tp_dealloc, end_gatherer},
    {Py_tp_methods, gatherer_methods},
    {0, NULL},
};

static PyType_Spec gatherer_spec = {
    .name = "lane.Gatherer",
    .basicsize = sizeof(Gatherer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = gatherer_parts,
};
static PyTypeObject *gatherer_type;

/* gatherer(lines, serial, prefix, say, json): one with the method `gather`. */
static PyObject *gatherer(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 5 || !PyList_CheckExact(args[0]) || !PyIter_Check(args[1])
        || !PyUnicode_CheckExact(args[2]) || !PyCallable_Check(args[3]) || !PyBool_Check(args[4])) {
        PyErr_SetString(PyExc_TypeError,
                        "gatherer needs a list, an iterator, a text, a function and a bool");
        return NULL;
    }
    Gatherer *made = (Gatherer *)gatherer_type->tp_alloc(gatherer_type, 0);
    if (made != NULL) {
        made->lines = Py_NewRef(args[0]);
        made->serial = Py_NewRef(args[1]);
        made->prefix = Py_NewRef(args[2]);
        made->say = Py_NewRef(args[3]);
        made->json = args[4] == Py_True;
    }
    return (PyObject *)made;
}
