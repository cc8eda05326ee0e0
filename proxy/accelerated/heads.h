/* The head of a request that begins and ends like a template of its connection, and the first head
 * of a connection, whose lines are those of other connections. */

#pragma once

#include "slots.h"

/* The fields that may vary in the heads of a connection: how clients spell their names, and each
 * name in lower case. */
enum { MOST_SPELLINGS = 32 };
static struct {
    PyObject *spelt, *name;
} spellings[MOST_SPELLINGS];
static int spelling_count;
static PyObject *content_length; /* the name */

enum { METHOD_COUNT = 7 };
static const char *const method_names[METHOD_COUNT] = {
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS",
};
static PyObject *methods[METHOD_COUNT];

/* A connection has at most four templates; a head's lines that vary are few. */
enum { MOST_VARYING = 8 };
static const char VERSION[] = " HTTP/1.1\r\n";
static const char CONTENT_LENGTH[] = "Content-Length";

/* grammar._TARGET_BYTE and grammar._FIELD_BYTES */
static int is_target(const char *text, Py_ssize_t size)
{
    for (Py_ssize_t at = 0; at < size; at++) {
        unsigned char byte = (unsigned char)text[at];
        if (byte < 0x21 || byte > 0x7e || byte == '#')
            return 0;
    }
    return 1;
}

static int is_value(const char *text, Py_ssize_t size)
{
    for (Py_ssize_t at = 0; at < size; at++) {
        unsigned char byte = (unsigned char)text[at];
        if ((byte < 0x20 && byte != '\t') || byte == 0x7f)
            return 0;
    }
    return 1;
}

/* Fields that vary */

typedef struct {
    PyObject *fields[MOST_VARYING]; /* owned */
    int count;
    int has_length;
    Py_ssize_t length;
} Varied;

static void forget(Varied *varied)
{
    while (varied->count > 0)
        Py_DECREF(varied->fields[--varied->count]);
}

/* Parse whole lines. 1 when all are known kinds, 0 to decline, -1 with an error. */
static int parse_lines(const char *text, Py_ssize_t size, PyObject *names, Varied *varied)
{
    const char *end = text + size;
    while (text < end) {
        const char *stop = memchr(text, '\r', (size_t)(end - text));
        if (stop == NULL || end - stop < 2 || stop[1] != '\n' || varied->count == MOST_VARYING)
            return 0;
        const char *colon = memchr(text, ':', (size_t)(stop - text));
        if (colon == NULL || stop - colon < 2 || colon[1] != ' ')
            return 0;
        const char *value = colon + 2, *last = stop;
        if (!is_value(value, last - value))
            return 0;
        while (value < last && (*value == ' ' || *value == '\t'))
            value++;
        while (last > value && (last[-1] == ' ' || last[-1] == '\t'))
            last--;
        PyObject *name = NULL;
        if (is(text, colon - text, CONTENT_LENGTH, COUNT(CONTENT_LENGTH) - 1)) {
            /* As many digits as can overflow nothing; others are declined. */
            if (varied->has_length || last == value || last - value > 15)
                return 0;
            Py_ssize_t length = 0;
            for (const char *digit = value; digit < last; digit++) {
                if (*digit < '0' || *digit > '9')
                    return 0;
                length = length * 10 + (*digit - '0');
            }
            varied->has_length = 1;
            varied->length = length;
            name = content_length;
        } else {
            for (int place = 0; place < spelling_count && name == NULL; place++) {
                PyObject *spelt = spellings[place].spelt;
                if (is(text, colon - text, PyBytes_AS_STRING(spelt), PyBytes_GET_SIZE(spelt)))
                    name = spellings[place].name;
            }
            if (name == NULL)
                return 0;
        }
        int known = PySet_Contains(names, name);
        if (known != 0)
            return known < 0 ? -1 : 0;
        PyObject *text_of = PyBytes_FromStringAndSize(value, last - value);
        if (text_of == NULL)
            return -1;
        PyObject *field = PyTuple_New(2);
        if (field == NULL) {
            Py_DECREF(text_of);
            return -1;
        }
        PyTuple_SET_ITEM(field, 0, Py_NewRef(name));
        PyTuple_SET_ITEM(field, 1, text_of);
        varied->fields[varied->count++] = field;
        text = stop + 2;
    }
    return 1;
}

/* Append items to a list that has room for them. */
static void fill(PyObject *list, Py_ssize_t *place, PyObject *const *items, Py_ssize_t count)
{
    for (Py_ssize_t at = 0; at < count; at++)
        PyList_SET_ITEM(list, (*place)++, Py_NewRef(items[at]));
}

typedef struct {
    PyObject *method;
    const char *target, *lines, *end; /* ``lines`` to ``end``: all after the request line */
    Py_ssize_t target_size;
} Plain;

/* A request; ``host`` is a tuple of three. */
static PyObject *new_request(const Plain *plain, PyObject *connection, PyObject *host,
                             PyObject *fields, PyObject *uncached, PyObject *block)
{
    PyObject *target = PyBytes_FromStringAndSize(plain->target, plain->target_size);
    PyObject *path, *query, *made = NULL;
    const char *mark = memchr(plain->target, '?', (size_t)plain->target_size);
    if (mark == NULL) {
        path = Py_XNewRef(target);
        query = Py_NewRef(empty);
    } else {
        path = PyBytes_FromStringAndSize(plain->target, mark - plain->target);
        query = PyBytes_FromStringAndSize(mark + 1, plain->target + plain->target_size - mark - 1);
    }
    if (target != NULL && path != NULL && query != NULL)
        made = copy_of(&requests, request_pattern);
    if (made != NULL) {
        put(&requests, made, METHOD, Py_NewRef(plain->method));
        put(&requests, made, TARGET, Py_NewRef(target));
        put(&requests, made, PATH, Py_NewRef(path));
        put(&requests, made, QUERY, Py_NewRef(query));
        put(&requests, made, AUTHORITY, Py_NewRef(PyTuple_GET_ITEM(host, 1)));
        put(&requests, made, HOST, Py_NewRef(PyTuple_GET_ITEM(host, 2)));
        put(&requests, made, FIELDS, Py_NewRef(fields));
        put(&requests, made, UNCACHED, Py_NewRef(uncached));
        put(&requests, made, CACHED, Py_NewRef(block));
        put(&requests, made, OF_CONNECTION, Py_NewRef(connection));
    }
    Py_XDECREF(target);
    Py_XDECREF(path);
    Py_XDECREF(query);
    return made;
}

/* The field of a line that was accepted before: borrowed. ``host`` is set where it is the Host line.
 * NULL without an error where the line is not known. */
static PyObject *known_field(const char *text, Py_ssize_t size, PyObject *known, PyObject *hosts,
                             PyObject **host)
{
    PyObject *line = PyBytes_FromStringAndSize(text, size);
    if (line == NULL)
        return NULL;
    PyObject *field = NULL;
    if (hosts != NULL) {
        PyObject *entry = PyDict_GetItemWithError(hosts, line);
        if (entry != NULL && PyTuple_CheckExact(entry) && PyTuple_GET_SIZE(entry) == 3) {
            *host = entry;
            field = PyTuple_GET_ITEM(entry, 0);
        }
    }
    if (field == NULL && !PyErr_Occurred())
        field = PyDict_GetItemWithError(known, line);
    Py_DECREF(line);
    return field;
}

/* The request of the first head of a connection, whose first line tells the host: all lines are
 * known, or of the fields that vary. NULL without an error to decline. */
static PyObject *line_by_line(const Plain *plain, PyObject *connection, PyObject *known, PyObject *hosts,
                              Py_ssize_t most_fields, Py_ssize_t *length)
{
    Varied varied = {.count = 0, .has_length = 0, .length = 0};
    PyObject *made = NULL, *host = NULL, *none = PyFrozenSet_New(NULL), *fields = PyList_New(0);
    if (none == NULL || fields == NULL)
        goto done;
    const char *text = plain->lines, *end = plain->end - 2; /* where the empty line begins */
    while (text < end) {
        const char *stop = memchr(text, '\r', (size_t)(end - text));
        if (stop == NULL || end - stop < 2 || stop[1] != '\n' || stop == text
            || PyList_GET_SIZE(fields) == most_fields)
            goto done;
        PyObject *field = known_field(text, stop - text, known, text == plain->lines ? hosts : NULL, &host);
        if (field == NULL) {
            if (PyErr_Occurred() || parse_lines(text, stop + 2 - text, none, &varied) != 1)
                goto done;
            field = varied.fields[varied.count - 1];
        }
        if (host == NULL || PyList_Append(fields, field) < 0)
            goto done;
        text = stop + 2;
    }
    if (host == NULL || end - text != 0 || end[0] != '\r' || end[1] != '\n')
        goto done;
    Py_INCREF(host);
    made = new_request(plain, connection, host, fields, fields, Py_None);
    Py_DECREF(host);
    *length = varied.length;
done:
    forget(&varied);
    Py_XDECREF(none);
    Py_XDECREF(fields);
    return made;
}

/* The request of a head that begins and ends like a template; NULL without an error to decline. */
static PyObject *by_template(const Plain *plain, PyObject *template, PyObject *connection,
                             Py_ssize_t most_fields, Py_ssize_t *length)
{
    PyObject *between = get(&templates, template, BETWEEN), *names = get(&templates, template, NAMES);
    PyObject *before = get(&templates, template, BEFORE), *after = get(&templates, template, AFTER);
    PyObject *first = get(&templates, template, BEFORE_FIELDS);
    PyObject *second = get(&templates, template, BETWEEN_FIELDS);
    PyObject *third = get(&templates, template, AFTER_FIELDS);
    PyObject *block = get(&templates, template, BLOCK), *host = get(&templates, template, HOST_KNOWN);
    if (!is_bytes(between) || names == NULL || !PyFrozenSet_CheckExact(names) || !is_list(first)
        || !is_list(second) || !is_list(third) || block == NULL || host == NULL
        || !PyTuple_CheckExact(host) || PyTuple_GET_SIZE(host) != 3)
        return NULL;
    const char *text = plain->lines + PyBytes_GET_SIZE(before);
    Py_ssize_t size = plain->end - PyBytes_GET_SIZE(after) - text;
    Py_ssize_t gap = PyBytes_GET_SIZE(between);
    Varied varied = {.count = 0, .has_length = 0, .length = 0};
    PyObject *made = NULL, *fields = NULL, *uncached = NULL;
    int ahead = 0; /* how many of the fields that vary stand before ``between`` */
    int parsed;
    if (gap == 0) {
        parsed = parse_lines(text, size, names, &varied);
        ahead = varied.count;
    } else {
        const char *found = memmem(text, (size_t)size, PyBytes_AS_STRING(between), (size_t)gap);
        if (found == NULL)
            return NULL;
        parsed = parse_lines(text, found - text, names, &varied);
        ahead = varied.count;
        if (parsed == 1)
            parsed = parse_lines(found + gap, text + size - (found + gap), names, &varied);
    }
    Py_ssize_t count = PyList_GET_SIZE(first) + PyList_GET_SIZE(second) + PyList_GET_SIZE(third);
    if (gap == 0)
        count -= PyList_GET_SIZE(second);
    count += varied.count;
    if (parsed != 1 || count > most_fields)
        goto done;
    fields = PyList_New(count);
    uncached = PyList_New(varied.count);
    if (fields == NULL || uncached == NULL)
        goto done;
    Py_ssize_t place = 0;
    fill(fields, &place, items(first), PyList_GET_SIZE(first));
    fill(fields, &place, varied.fields, ahead);
    if (gap != 0)
        fill(fields, &place, items(second), PyList_GET_SIZE(second));
    fill(fields, &place, varied.fields + ahead, varied.count - ahead);
    fill(fields, &place, items(third), PyList_GET_SIZE(third));
    place = 0;
    fill(uncached, &place, varied.fields, varied.count);
    made = new_request(plain, connection, host, fields, uncached, block);
    if (made != NULL)
        *length = varied.length;
done:
    forget(&varied);
    Py_XDECREF(fields);
    Py_XDECREF(uncached);
    return made;
}

/* What a parser returns of a request; steals it. */
static PyObject *parsed(PyObject *request, Py_ssize_t length)
{
    PyObject *of_body = length == 0 ? Py_NewRef(zero) : PyLong_FromSsize_t(length);
    PyObject *found = of_body == NULL ? NULL : PyTuple_New(4);
    if (found == NULL) {
        Py_XDECREF(of_body);
        Py_DECREF(request);
        return NULL;
    }
    PyTuple_SET_ITEM(found, 0, request);
    PyTuple_SET_ITEM(found, 1, of_body);
    PyTuple_SET_ITEM(found, 2, Py_NewRef(Py_False));
    PyTuple_SET_ITEM(found, 3, Py_NewRef(Py_None));
    return found;
}

/* plain_head(head, connection, most_fields, largest_target, largest_head, known, hosts)
 *
 * ``known`` and ``hosts`` are the tables of lines, for the first head of a connection.
 *
 * See `proxy.protocol.h1.fast_parser.FastParser.parse`: what it returns, or None to decline. */
static PyObject *plain_head(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 7 || requests.type == NULL || templates.type == NULL || !PyDict_CheckExact(args[5])
        || !PyDict_CheckExact(args[6])) {
        PyErr_SetString(PyExc_TypeError,
                        "plain_head needs seven arguments, the last two dicts, and `bind` before");
        return NULL;
    }
    PyObject *head = args[0], *connection = args[1];
    Py_ssize_t most_fields = PyLong_AsSsize_t(args[2]), largest_target = PyLong_AsSsize_t(args[3]);
    Py_ssize_t largest_head = PyLong_AsSsize_t(args[4]);
    if (PyErr_Occurred())
        return NULL;
    if (!PyBytes_CheckExact(head) || !Py_IS_TYPE(connection, connections.type))
        Py_RETURN_NONE;
    PyObject *own = get(&connections, connection, TEMPLATES);
    const char *text = PyBytes_AS_STRING(head);
    Py_ssize_t size = PyBytes_GET_SIZE(head);
    if ((!is_list(own) && own != Py_None) || size > largest_head)
        Py_RETURN_NONE;
    const Py_ssize_t version_size = COUNT(VERSION) - 1;
    const char *version = memmem(text, (size_t)size, VERSION, (size_t)version_size);
    if (version == NULL)
        Py_RETURN_NONE;
    const char *space = memchr(text, ' ', (size_t)(version - text));
    if (space == NULL)
        Py_RETURN_NONE;
    Plain plain = {
        .method = NULL, .target = space + 1, .target_size = version - (space + 1),
        .lines = version + version_size, .end = text + size,
    };
    for (int place = 0; place < METHOD_COUNT && plain.method == NULL; place++) {
        PyObject *method = methods[place];
        if (is(text, space - text, PyBytes_AS_STRING(method), PyBytes_GET_SIZE(method)))
            plain.method = method;
    }
    if (plain.method == NULL || plain.target_size < 1 || plain.target[0] != '/'
        || plain.target_size > largest_target || !is_target(plain.target, plain.target_size))
        Py_RETURN_NONE;
    if (own == Py_None) {
        Py_ssize_t length = 0;
        PyObject *request = line_by_line(&plain, connection, args[5], args[6], most_fields, &length);
        PyObject *none_yet = request == NULL ? NULL : PyList_New(0);
        if (none_yet == NULL) {
            Py_XDECREF(request);
            if (PyErr_Occurred())
                return NULL;
            Py_RETURN_NONE;
        }
        put(&connections, connection, TEMPLATES, none_yet);
        return parsed(request, length);
    }
    for (Py_ssize_t place = 0; place < PyList_GET_SIZE(own); place++) {
        PyObject *template = PyList_GET_ITEM(own, place);
        if (!Py_IS_TYPE(template, templates.type))
            Py_RETURN_NONE;
        PyObject *before = get(&templates, template, BEFORE), *after = get(&templates, template, AFTER);
        if (!is_bytes(before) || !is_bytes(after))
            Py_RETURN_NONE;
        Py_ssize_t left = plain.end - plain.lines - PyBytes_GET_SIZE(before) - PyBytes_GET_SIZE(after);
        if (left < 0
            || memcmp(plain.lines, PyBytes_AS_STRING(before), (size_t)PyBytes_GET_SIZE(before)) != 0
            || memcmp(plain.end - PyBytes_GET_SIZE(after), PyBytes_AS_STRING(after),
                      (size_t)PyBytes_GET_SIZE(after)) != 0)
            continue;
        Py_ssize_t length = 0;
        Py_INCREF(template);
        PyObject *request = by_template(&plain, template, connection, most_fields, &length);
        Py_DECREF(template);
        if (request == NULL) {
            if (PyErr_Occurred())
                return NULL;
            Py_RETURN_NONE;
        }
        return parsed(request, length);
    }
    Py_RETURN_NONE;
}
