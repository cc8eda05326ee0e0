/* The bytes of a plain response: see `proxy.protocol.h1.writer.ResponseWriter.send_plain`. */

#pragma once

#include "slots.h"

enum { A_STATUS, A_BODY, A_CACHED };
static const char *const answer_slots[] = {"status", "body", "cached"};
enum { WIRE, DATED };
static const char *const serialised_slots[] = {"wire", "dated"};
static Slots answers, serialised;

/* bind_answers(response class, class of serialised heads) */
static PyObject *bind_answers(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "bind_answers needs two classes");
        return NULL;
    }
    if (find_slots(args[0], answer_slots, COUNT(answer_slots), &answers) < 0
        || find_slots(args[1], serialised_slots, COUNT(serialised_slots), &serialised) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* plain_answer(request, response, date field): head and body; None to decline. */
static PyObject *plain_answer(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || requests.type == NULL || serialised.type == NULL) {
        PyErr_SetString(PyExc_TypeError, "plain_answer needs three arguments, and `bind` before");
        return NULL;
    }
    PyObject *request = args[0], *response = args[1], *date = args[2];
    if (!Py_IS_TYPE(request, requests.type) || !Py_IS_TYPE(response, answers.type) || !is_bytes(date))
        Py_RETURN_NONE;
    PyObject *cached = get(&answers, response, A_CACHED), *body = get(&answers, response, A_BODY);
    PyObject *status = get(&answers, response, A_STATUS);
    PyObject *method = get(&requests, request, METHOD), *version = get(&requests, request, SPOKEN);
    if (cached == NULL || !Py_IS_TYPE(cached, serialised.type) || !is_bytes(body) || status == NULL
        || !PyLong_CheckExact(status) || !is_bytes(method) || !is_bytes(version))
        Py_RETURN_NONE;
    PyObject *wire = get(&serialised, cached, WIRE), *dated = get(&serialised, cached, DATED);
    if (!is_bytes(wire) || dated == NULL || !PyBool_Check(dated)
        || !is(PyBytes_AS_STRING(version), PyBytes_GET_SIZE(version), "1.1", 3)
        || is(PyBytes_AS_STRING(method), PyBytes_GET_SIZE(method), "HEAD", 4))
        Py_RETURN_NONE;
    int overflow;
    long number = PyLong_AsLongAndOverflow(status, &overflow);
    if (overflow || number == 204 || number == 304)
        Py_RETURN_NONE;
    Py_ssize_t head = PyBytes_GET_SIZE(wire), day = dated == Py_True ? 0 : PyBytes_GET_SIZE(date);
    Py_ssize_t content = PyBytes_GET_SIZE(body);
    if (head > PY_SSIZE_T_MAX / 4 || day > PY_SSIZE_T_MAX / 4 || content > PY_SSIZE_T_MAX / 4)
        Py_RETURN_NONE;
    PyObject *made = PyBytes_FromStringAndSize(NULL, head + day + 2 + content);
    if (made == NULL)
        return NULL;
    char *to = PyBytes_AS_STRING(made);
    memcpy(to, PyBytes_AS_STRING(wire), (size_t)head);
    memcpy(to + head, PyBytes_AS_STRING(date), (size_t)day);
    memcpy(to + head + day, "\r\n", 2);
    memcpy(to + head + day + 2, PyBytes_AS_STRING(body), (size_t)content);
    return made;
}
