/* What is asked of OpenSSL past the `ssl` module: see `proxy.transport.openssl`, which has found the
 * functions and knows where an object of the module has its SSL *. */

#pragma once

#include <Python.h>

static PyTypeObject *tls_type;  /* _ssl._SSLSocket */
static Py_ssize_t tls_at;       /* where its SSL * is */
static long (*tls_ctrl)(void *, int, long, void *);
static int (*tls_handshake)(void *);
static int (*tls_get_error)(const void *, int);
static int (*tls_shutdown)(void *);
static void (*tls_clear_error)(void);

/* openssl/ssl.h */
enum { CLEAR_MODE = 78, AUTO_RETRY = 4, WANT_READ = 2, WANT_WRITE = 3 };

/* bind_openssl(class, at, ctrl, do_handshake, get_error, shutdown, clear_error): the addresses of
 * functions of these names. */
static PyObject *bind_openssl(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    void *found[5];
    if (count != 7 || !PyType_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "bind_openssl needs a class, a place and five addresses");
        return NULL;
    }
    Py_ssize_t at = PyLong_AsSsize_t(args[1]);
    for (int place = 0; place < 5 && !PyErr_Occurred(); place++)
        found[place] = PyLong_AsVoidPtr(args[2 + place]);
    if (PyErr_Occurred())
        return NULL;
    PyTypeObject *type = (PyTypeObject *)args[0];
    if (at < (Py_ssize_t)sizeof(PyObject) || at > type->tp_basicsize - (Py_ssize_t)sizeof(void *)) {
        PyErr_SetString(PyExc_ValueError, "there is no pointer at this place");
        return NULL;
    }
    for (int place = 0; place < 5; place++) {
        if (found[place] == NULL) {
            PyErr_SetString(PyExc_ValueError, "a function is missing");
            return NULL;
        }
    }
    Py_XSETREF(tls_type, (PyTypeObject *)Py_NewRef(type));
    tls_at = at;
    tls_ctrl = (long (*)(void *, int, long, void *))found[0];
    tls_handshake = (int (*)(void *))found[1];
    tls_get_error = (int (*)(const void *, int))found[2];
    tls_shutdown = (int (*)(void *))found[3];
    tls_clear_error = (void (*)(void))found[4];
    Py_RETURN_NONE;
}

/* The SSL * of an object of the module's class; NULL with an error for any other. */
static void *tls_of(PyObject *object)
{
    if (tls_type == NULL || !Py_IS_TYPE(object, tls_type)) {
        PyErr_SetString(PyExc_TypeError, "this is no object of the ssl module's");
        return NULL;
    }
    void *tls = *(void **)((char *)object + tls_at);
    if (tls == NULL)
        PyErr_SetString(PyExc_ValueError, "this object has no connection");
    return tls;
}

/* disable_auto_retry(object) */
static PyObject *disable_auto_retry(PyObject *Py_UNUSED(module), PyObject *object)
{
    void *tls = tls_of(object);
    if (tls == NULL)
        return NULL;
    tls_ctrl(tls, CLEAR_MODE, AUTO_RETRY, NULL);
    Py_RETURN_NONE;
}

/* shake(object): go on with a handshake. 0 when it is over, 1 where it waits for bytes, 2 for room;
 * None for whatever else. Then the module's own `do_handshake` says what it is: OpenSSL has not
 * forgotten. */
static PyObject *shake(PyObject *Py_UNUSED(module), PyObject *object)
{
    void *tls = tls_of(object);
    if (tls == NULL)
        return NULL;
    Py_INCREF(object);
    int done = tls_handshake(tls);
    int error = done == 1 ? 0 : tls_get_error(tls, done);
    Py_DECREF(object);
    if (PyErr_Occurred())
        return NULL;
    if (done == 1)
        return PyLong_FromLong(0);
    if (error == WANT_READ || error == WANT_WRITE)
        return PyLong_FromLong(error - 1);
    Py_RETURN_NONE;
}

/* close_notify(object): say it once, and forget what came of it. */
static PyObject *close_notify(PyObject *Py_UNUSED(module), PyObject *object)
{
    void *tls = tls_of(object);
    if (tls == NULL)
        return NULL;
    tls_shutdown(tls);
    tls_clear_error();
    Py_RETURN_NONE;
}
