/* Makes objects as copies of one that Python has made: see `proxy.accelerated.maker_of`. */

#pragma once

#include "slots.h"

typedef struct {
    PyObject_HEAD
    PyObject *pattern;
    Slots slots;      /* first those whose values are given, then the others */
    Py_ssize_t given; /* how many these are */
} Maker;

/* make(value, …): an object with these values, in the order of the names, and else what the pattern
 * has. */
static PyObject *make(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Maker *maker = (Maker *)self;
    if (count != maker->given) {
        PyErr_Format(PyExc_TypeError, "make needs %zd arguments", maker->given);
        return NULL;
    }
    const Slots *slots = &maker->slots;
    PyObject *made = slots->type->tp_alloc(slots->type, 0);
    if (made == NULL)
        return NULL;
    Py_ssize_t place = 0;
    for (; place < count; place++)
        *(PyObject **)((char *)made + slots->at[place]) = Py_NewRef(args[place]);
    for (; place < slots->count; place++)
        *(PyObject **)((char *)made + slots->at[place])
            = Py_XNewRef(get(slots, maker->pattern, (int)place));
    return made;
}

static void end_maker(PyObject *self)
{
    Maker *maker = (Maker *)self;
    PyTypeObject *type = Py_TYPE(self);
    forget_slots(&maker->slots);
    Py_XDECREF(maker->pattern);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef maker_methods[] = {
    {"make", (PyCFunction)(void (*)(void))make, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot maker_parts[] = {
    {Py_tp_dealloc, end_maker},
    {Py_tp_methods, maker_methods},
    {0, NULL},
};

static PyType_Spec maker_spec = {
    .name = "lane.Maker",
    .basicsize = sizeof(Maker),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = maker_parts,
};
static PyTypeObject *maker_type;

enum { MOST_SLOTS = 48 };

/* maker(pattern, given, others): one with the method `make`. ``given`` and ``others`` are tuples of
 * names of slots. TypeError where an object of the pattern's class is more than its slots, or where
 * the pattern would share what can be changed. */
static PyObject *maker(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyTuple_CheckExact(args[1]) || !PyTuple_CheckExact(args[2])
        || PyTuple_GET_SIZE(args[1]) + PyTuple_GET_SIZE(args[2]) > MOST_SLOTS) {
        PyErr_SetString(PyExc_TypeError, "maker needs an object and two tuples of names");
        return NULL;
    }
    PyObject *pattern = args[0];
    PyTypeObject *type = Py_TYPE(pattern);
    const char *names[MOST_SLOTS];
    Py_ssize_t given = PyTuple_GET_SIZE(args[1]), all = given + PyTuple_GET_SIZE(args[2]);
    for (Py_ssize_t place = 0; place < all; place++) {
        PyObject *name = place < given ? PyTuple_GET_ITEM(args[1], place)
                                       : PyTuple_GET_ITEM(args[2], place - given);
        names[place] = PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
        if (names[place] == NULL) {
            PyErr_SetString(PyExc_TypeError, "names are text");
            return NULL;
        }
    }
    Py_ssize_t filled = (Py_ssize_t)sizeof(PyObject) + all * (Py_ssize_t)sizeof(PyObject *);
    if (type->tp_itemsize != 0 || type->tp_dictoffset != 0 || type->tp_weaklistoffset != 0
        || type->tp_basicsize != filled) {
        PyErr_Format(PyExc_TypeError, "%s has not just these slots", type->tp_name);
        return NULL;
    }
    Maker *made = (Maker *)maker_type->tp_alloc(maker_type, 0);
    if (made == NULL)
        return NULL;
    made->pattern = Py_NewRef(pattern);
    made->given = given;
    if (find_slots((PyObject *)type, names, all, &made->slots) < 0) {
        Py_DECREF(made);
        return NULL;
    }
    for (Py_ssize_t place = given; place < all; place++) {
        PyObject *value = get(&made->slots, pattern, (int)place);
        if (value != NULL && !Py_IS_TYPE(value, &PyTuple_Type) && PyObject_IS_GC(value)
            && !PyFrozenSet_CheckExact(value)) {
            PyErr_Format(PyExc_TypeError, "%s is not shared by objects", names[place]);
            Py_DECREF(made);
            return NULL;
        }
    }
    return (PyObject *)made;
}
