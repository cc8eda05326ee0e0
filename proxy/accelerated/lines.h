/* Lines of the access log, as text and as JSON. */

#pragma once

#include "slots.h"

/* A word of a line, which is looked at and not owned. */
typedef struct {
    const char *text;
    Py_ssize_t size;
} Word;

/* Whether a value is text of plain ASCII; then it is the word. */
static int word_of(PyObject *value, Word *word)
{
    if (value == NULL || !PyUnicode_CheckExact(value) || !PyUnicode_IS_COMPACT_ASCII(value))
        return 0;
    *word = (Word){(const char *)PyUnicode_1BYTE_DATA(value), PyUnicode_GET_LENGTH(value)};
    return 1;
}

/* The word that a bytes object is. */
static inline Word word_of_bytes(PyObject *bytes)
{
    return (Word){PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes)};
}

/* Whether a word is printable ASCII, and, within quotes, nothing that has to be escaped. */
static int is_clear(Word word, int quoted)
{
    for (Py_ssize_t at = 0; at < word.size; at++) {
        unsigned char byte = (unsigned char)word.text[at];
        if (byte < 0x20 || byte > 0x7e || (quoted && (byte == '"' || byte == '\\')))
            return 0;
    }
    return 1;
}

enum { DIGITS = 24 };

/* Write a number that is not negative in ASCII, so that it ends before ``end``; where it begins. */
static inline char *write_digits(char *end, long long number, int base)
{
    do {
        *--end = "0123456789abcdef"[number % base];
        number /= base;
    } while (number > 0);
    return end;
}

/* A whole number that is not negative, in ASCII, at the end of the buffer. */
static int number_of(PyObject *value, char buffer[DIGITS], Word *word)
{
    if (value == NULL || !PyLong_CheckExact(value))
        return 0;
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow || number < 0)
        return 0;
    char *at = write_digits(buffer + DIGITS, number, 10);
    *word = (Word){at, buffer + DIGITS - at};
    return 1;
}

/* A duration below a tenth of a second, as tenths of milliseconds. */
static int duration_of(PyObject *value, char buffer[DIGITS], Word *word)
{
    if (value == NULL || !PyFloat_CheckExact(value))
        return 0;
    double exact = PyFloat_AS_DOUBLE(value) * 10000 + 0.5;
    if (!(exact >= 0 && exact < 1000))
        return 0;
    int tenths = (int)exact;
    char *at = buffer + DIGITS;
    *--at = 's';
    *--at = 'm';
    *--at = (char)('0' + tenths % 10);
    *--at = '.';
    at = write_digits(at, tenths / 10, 10);
    *word = (Word){at, buffer + DIGITS - at};
    return 1;
}

/* Gathers lines: see `proxy.worker.access_log.AcceleratedAccessLog`. */
typedef struct {
    PyObject_HEAD
    PyObject *lines;  /* a list */
    PyObject *serial; /* an iterator over numbers */
    PyObject *prefix; /* of our own request ids */
    PyObject *say;    /* makes a moment's text of a second and a millisecond */
    PyObject *moment; /* the text, NULL before the first */
    long long millisecond; /* that it is of */
    int json; /* the form of the lines */
} Gatherer;

/* The next request id of our own, as the digits behind its prefix. 0 to decline, -1 with an error. */
static int next_id(PyObject *serial, char buffer[DIGITS], Word *digits)
{
    PyObject *number = PyIter_Next(serial);
    if (number == NULL)
        return PyErr_Occurred() ? -1 : 0;
    int overflow = 1;
    long long left = PyLong_CheckExact(number) ? PyLong_AsLongLongAndOverflow(number, &overflow) : 0;
    Py_DECREF(number);
    if (overflow || left < 0)
        return 0;
    char *at = write_digits(buffer + DIGITS, left, 16);
    *digits = (Word){at, buffer + DIGITS - at};
    return 1;
}

/* What all lines tell. Objects are borrowed; `facts_of` has looked at their types. */
typedef struct {
    PyObject *connection, *request;
    PyObject *host; /* bytes */
    Word moment, method, target, handler, error, backend, status, sent;
    Word id, more_id; /* the request's id is these two, one behind the other */
    int own_id;       /* whether it is ours, because the request came without an id */
    char of_status[DIGITS], of_sent[DIGITS], of_id[DIGITS];
} Facts;

/* The same as `word_of`; None and "" are empty words. */
static int word_or_nothing(PyObject *value, Word *word)
{
    *word = (Word){"", 0};
    return value == Py_None || word_of(value, word);
}

/* 1 when the facts of a finished exchange are the usual ones, 0 to decline. Where the request has no
 * id, ``own_id`` stands for it. */
static int facts_of(Facts *facts, PyObject *moment, PyObject *finished, PyObject *own_id)
{
    if (!Py_IS_TYPE(finished, exchanges.type))
        return 0;
    PyObject *connection = facts->connection = get(&exchanges, finished, E_CONNECTION);
    PyObject *request = facts->request = get(&exchanges, finished, E_REQUEST);
    PyObject *response = get(&exchanges, finished, RESPONSE);
    if (connection == NULL || !Py_IS_TYPE(connection, connections.type) || request == NULL
        || !Py_IS_TYPE(request, requests.type) || response == NULL
        || !Py_IS_TYPE(response, responses.type) || get(&connections, connection, PROXIES) != Py_None
        || get(&requests, request, OF_CONNECTION) != connection)
        return 0;
    facts->host = get(&requests, request, HOST);
    PyObject *method = get(&requests, request, METHOD), *target = get(&requests, request, TARGET);
    PyObject *id = get(&requests, request, ID);
    if (!is_bytes(facts->host) || !is_bytes(method) || !is_bytes(target) || !is_bytes(id))
        return 0;
    facts->method = word_of_bytes(method);
    facts->target = word_of_bytes(target);
    PyObject *broken = get(&exchanges, finished, E_ERROR);
    if (!word_or_nothing(broken, &facts->error)
        || (facts->error.size == 0 && !word_or_nothing(get(&responses, response, R_ERROR), &facts->error))
        || !word_of(moment, &facts->moment) || !word_of(own_id, &facts->id)
        || !word_of(get(&responses, response, HANDLER), &facts->handler)
        || !word_or_nothing(get(&responses, response, R_BACKEND), &facts->backend)
        || !number_of(get(&responses, response, STATUS), facts->of_status, &facts->status)
        || !number_of(get(&exchanges, finished, SENT), facts->of_sent, &facts->sent)
        || !is_clear(facts->method, 1) || !is_clear(facts->target, 1))
        return 0;
    facts->more_id = (Word){"", 0};
    facts->own_id = 0;
    if (PyBytes_GET_SIZE(id) > 0) {
        facts->id = word_of_bytes(id);
        return is_clear(facts->id, 0);
    }
    facts->own_id = 1;
    return 1;
}

/* Put the gatherer's next id behind its prefix, where the request has none; 0 to decline, also with
 * an error. Last of all, so that none is left out. */
static int take_id(Facts *facts, Gatherer *gatherer)
{
    if (gatherer == NULL || !facts->own_id)
        return 1;
    return next_id(gatherer->serial, facts->of_id, &facts->more_id) == 1;
}

/* Text of words, all of them ASCII; NULL without an error where it would be absurdly long. */
static PyObject *text_of(const Word *words, Py_ssize_t count)
{
    Py_ssize_t size = 0;
    for (Py_ssize_t place = 0; place < count; place++) {
        if (words[place].size > PY_SSIZE_T_MAX / 64 - size)
            return NULL;
        size += words[place].size;
    }
    PyObject *text = PyUnicode_New(size, 127);
    if (text == NULL || size == 0)
        return text;
    char *to = (char *)PyUnicode_1BYTE_DATA(text);
    for (Py_ssize_t place = 0; place < count; place++) {
        memcpy(to, words[place].text, (size_t)words[place].size);
        to += words[place].size;
    }
    return text;
}

static inline Word or_dash(Word word)
{
    return word.size ? word : (Word){"-", 1};
}

/* The line of a finished exchange: see `proxy.worker.access_lines.text_line`. NULL without an error
 * to decline. */
static PyObject *text_line_of(PyObject *at, PyObject *finished, PyObject *own_id, Gatherer *gatherer)
{
    Facts facts;
    Word parties, tls, taken;
    char of_taken[DIGITS];
    if (!Py_IS_TYPE(finished, exchanges.type)
        || !duration_of(get(&exchanges, finished, DURATION), of_taken, &taken)
        || !facts_of(&facts, at, finished, own_id))
        return NULL;
    PyObject *known = get(&connections, facts.connection, NAMED_IN_LOG);
    if (known == NULL || !PyTuple_CheckExact(known) || PyTuple_GET_SIZE(known) != 3)
        return NULL;
    PyObject *named = PyTuple_GET_ITEM(known, 0);
    if (named != facts.host
        && !(is_bytes(named) && is(PyBytes_AS_STRING(named), PyBytes_GET_SIZE(named),
                                   PyBytes_AS_STRING(facts.host), PyBytes_GET_SIZE(facts.host))))
        return NULL;
    if (!word_of(PyTuple_GET_ITEM(known, 1), &parties) || !word_of(PyTuple_GET_ITEM(known, 2), &tls)
        || !take_id(&facts, gatherer))
        return NULL;
    const Word words[] = {
        facts.moment, {" access ", 8}, parties, {" \"", 2}, facts.method, {" ", 1},
        facts.target, {"\" ", 2}, facts.status, {" ", 1}, facts.sent, {" ", 1}, taken, {" ", 1},
        or_dash(facts.handler), {" ", 1}, or_dash(facts.backend), {" ", 1}, facts.id, facts.more_id,
        {" ", 1}, tls, {" ", 1}, or_dash(facts.error), {"\n", 1},
    };
    return text_of(words, COUNT(words));
}

/* The last value of the fields User-Agent and Referer, as `access_lines.referrer_and_agent` has it;
 * 0 to decline. */
static int agent_of(PyObject *fields, Word *referrer, Word *agent)
{
    *referrer = *agent = (Word){"", 0};
    if (!is_list(fields))
        return 0;
    for (Py_ssize_t place = 0; place < PyList_GET_SIZE(fields); place++) {
        PyObject *field = PyList_GET_ITEM(fields, place);
        if (!PyTuple_CheckExact(field) || PyTuple_GET_SIZE(field) != 2)
            return 0;
        PyObject *name = PyTuple_GET_ITEM(field, 0), *value = PyTuple_GET_ITEM(field, 1);
        if (!is_bytes(name) || !is_bytes(value))
            return 0;
        Word said = word_of_bytes(value);
        if (is(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), "user-agent", 10))
            *agent = said;
        else if (is(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), "referer", 7))
            *referrer = said;
    }
    return 1;
}

/* Put a string of JSON at the end of words, null where it is empty; 0 where it has to be escaped. */
static int add_quoted(Word *words, Py_ssize_t *count, Word word)
{
    if (word.size == 0) {
        words[(*count)++] = (Word){"null", 4};
        return 1;
    }
    words[(*count)++] = (Word){"\"", 1};
    words[(*count)++] = word;
    words[(*count)++] = (Word){"\"", 1};
    return is_clear(word, 1);
}

#define ADD(literal) (words[count++] = (Word){literal, COUNT(literal) - 1})

/* The same as JSON: see `proxy.worker.access_lines.json_line`. */
static PyObject *json_line_of(PyObject *at, PyObject *finished, PyObject *own_id, Gatherer *gatherer)
{
    Facts facts;
    Word peer, tls, referrer, agent;
    if (!facts_of(&facts, at, finished, own_id))
        return NULL;
    PyObject *duration = get(&exchanges, finished, DURATION), *version = get(&requests, facts.request, SPOKEN);
    if (duration == NULL || !PyFloat_CheckExact(duration) || !is_bytes(version)
        || !word_of(get(&connections, facts.connection, PEER), &peer)
        || !word_or_nothing(get(&connections, facts.connection, TLS), &tls)
        || !agent_of(get(&requests, facts.request, FIELDS), &referrer, &agent)
        || !is_clear(peer, 1) || !is_clear(facts.id, 1) || !is_clear(word_of_bytes(facts.host), 1))
        return NULL;
    const char *spoken = PyBytes_AS_STRING(version);
    Word protocol;
    if (is(spoken, PyBytes_GET_SIZE(version), "1.1", 3))
        protocol = (Word){"HTTP/1.1", 8};
    else if (is(spoken, PyBytes_GET_SIZE(version), "2", 1))
        protocol = (Word){"HTTP/2.0", 8};
    else
        return NULL;
    double taken = PyFloat_AS_DOUBLE(duration) * 1000;
    if (!(taken >= 0 && taken < 1e9))
        return NULL;
    char *of_taken = PyOS_double_to_string(taken, 'f', 3, 0, NULL);
    if (of_taken == NULL)
        return NULL;
    Word words[64];
    Py_ssize_t count = 0;
    ADD("{\"time\":\"");
    words[count++] = facts.moment;
    ADD("\",\"log\":\"access\",\"peer\":\"");
    words[count++] = peer;
    ADD("\",\"host\":\"");
    words[count++] = word_of_bytes(facts.host);
    ADD("\",\"method\":\"");
    words[count++] = facts.method;
    ADD("\",\"target\":\"");
    words[count++] = facts.target;
    ADD("\",\"protocol\":\"");
    words[count++] = protocol;
    ADD("\",\"status\":");
    words[count++] = facts.status;
    ADD(",\"bytes\":");
    words[count++] = facts.sent;
    ADD(",\"duration_ms\":");
    words[count++] = (Word){of_taken, (Py_ssize_t)strlen(of_taken)};
    ADD(",\"handler\":\"");
    words[count++] = facts.handler;
    ADD("\",\"backend\":");
    int clear = add_quoted(words, &count, facts.backend);
    ADD(",\"request_id\":\"");
    words[count++] = facts.id;
    Word *more_id = &words[count++];
    ADD("\",\"tls\":");
    clear &= add_quoted(words, &count, tls);
    ADD(",\"referrer\":");
    clear &= add_quoted(words, &count, referrer);
    ADD(",\"user_agent\":");
    clear &= add_quoted(words, &count, agent);
    ADD(",\"error\":");
    clear &= add_quoted(words, &count, facts.error);
    ADD("}\n");
    PyObject *line = NULL;
    if (clear && take_id(&facts, gatherer)) {
        *more_id = facts.more_id;
        line = text_of(words, count);
    }
    PyMem_Free(of_taken);
    return line;
}

typedef PyObject *MadeLine(PyObject *moment, PyObject *finished, PyObject *own_id, Gatherer *gatherer);

/* What both functions below do: a line, or None where ``made`` declines. */
static PyObject *line_or_none(const char *name, MadeLine *made, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || exchanges.type == NULL || requests.type == NULL) {
        PyErr_Format(PyExc_TypeError, "%s needs three arguments, and `bind` before", name);
        return NULL;
    }
    PyObject *line = made(args[0], args[1], args[2], NULL);
    if (line == NULL && !PyErr_Occurred())
        Py_RETURN_NONE;
    return line;
}

/* text_line(moment, exchange, own_id): a line, or None to decline. */
static PyObject *text_line(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    return line_or_none("text_line", text_line_of, args, count);
}

/* json_line(moment, exchange, own_id): a line, or None to decline. */
static PyObject *json_line(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    return line_or_none("json_line", json_line_of, args, count);
}
