/* The compiled lane: the few functions that a profile of a small request names.
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
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memmem */
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <string.h>
#include <time.h>

/* Slots of a class */

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

/* Put a value into an object that nobody else knows yet; steals the reference. */
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

enum { METHOD, TARGET, PATH, QUERY, AUTHORITY, HOST, FIELDS, UNCACHED, CACHED, OF_CONNECTION, ID };
static const char *const request_slots[] = {
    "method", "target", "path", "query", "authority", "host", "fields", "uncached_fields",
    "cached_fields", "connection", "id",
    /* and what else a new request has */
    "version", "body", "matched", "upgrade", "expects_continue", "inform", "backend", "login",
};

enum { TEMPLATES, NAMED_IN_LOG, PROXIES };
static const char *const connection_slots[] = {"protocol_state", "named_in_log", "proxies"};

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

#define COUNT(array) ((Py_ssize_t)(sizeof(array) / sizeof(array[0])))

static Slots requests, connections, templates, exchanges, responses;
static PyObject *request_pattern, *exchange_pattern; /* new ones, made by Python */

/* Spellings of names and the names, of fields that a request's head may vary in. */
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
static PyObject *empty, *zero;

/* A connection has at most four templates; a head's lines that vary are few. */
enum { MOST_VARYING = 8 };
static const char VERSION[] = " HTTP/1.1\r\n";
static const char CONTENT_LENGTH[] = "Content-Length";

static inline int is(const char *text, Py_ssize_t size, const char *other, Py_ssize_t other_size)
{
    return size == other_size && memcmp(text, other, (size_t)size) == 0;
}

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

typedef struct {
    PyObject *method;
    const char *target, *lines, *end; /* ``lines`` to ``end``: all after the request line */
    Py_ssize_t target_size;
} Plain;

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
    PyObject *made = NULL, *fields = NULL, *uncached = NULL, *target = NULL, *path = NULL, *query = NULL;
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
    target = PyBytes_FromStringAndSize(plain->target, plain->target_size);
    const char *mark = memchr(plain->target, '?', (size_t)plain->target_size);
    if (mark == NULL) {
        path = Py_XNewRef(target);
        query = Py_NewRef(empty);
    } else {
        path = PyBytes_FromStringAndSize(plain->target, mark - plain->target);
        query = PyBytes_FromStringAndSize(mark + 1, plain->target + plain->target_size - mark - 1);
    }
    if (target == NULL || path == NULL || query == NULL)
        goto done;
    made = copy_of(&requests, request_pattern);
    if (made == NULL)
        goto done;
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
    *length = varied.length;
done:
    forget(&varied);
    Py_XDECREF(fields);
    Py_XDECREF(uncached);
    Py_XDECREF(target);
    Py_XDECREF(path);
    Py_XDECREF(query);
    return made;
}

/* plain_head(head, connection, most_fields, largest_target, largest_head)
 *
 * See `proxy.protocol.h1.fast_parser.FastParser.parse`: what it returns, or None to decline. */
static PyObject *plain_head(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 5 || requests.type == NULL || templates.type == NULL) {
        PyErr_SetString(PyExc_TypeError, "plain_head needs five arguments, and `bind` before");
        return NULL;
    }
    PyObject *head = args[0], *connection = args[1];
    Py_ssize_t most_fields = PyLong_AsSsize_t(args[2]), largest_target = PyLong_AsSsize_t(args[3]);
    Py_ssize_t largest_head = PyLong_AsSsize_t(args[4]);
    if (PyErr_Occurred())
        return NULL;
    if (!PyBytes_CheckExact(head) || !Py_IS_TYPE(connection, connections.type))
        Py_RETURN_NONE;
    PyObject *known = get(&connections, connection, TEMPLATES);
    const char *text = PyBytes_AS_STRING(head);
    Py_ssize_t size = PyBytes_GET_SIZE(head);
    if (!is_list(known) || size > largest_head)
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
    for (Py_ssize_t place = 0; place < PyList_GET_SIZE(known); place++) {
        PyObject *template = PyList_GET_ITEM(known, place);
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
    Py_RETURN_NONE;
}

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

/* Lines of the access log */

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

/* The same; None and "" are a dash. */
static int word_or_dash(PyObject *value, Word *word)
{
    if (value == Py_None)
        *word = (Word){"-", 1};
    else if (!word_of(value, word))
        return 0;
    if (word->size == 0)
        *word = (Word){"-", 1};
    return 1;
}

/* Whether bytes are printable ASCII, and, within quotes, nothing that has to be escaped. */
static int is_clear(const char *text, Py_ssize_t size, int quoted)
{
    for (Py_ssize_t at = 0; at < size; at++) {
        unsigned char byte = (unsigned char)text[at];
        if (byte < 0x20 || byte > 0x7e || (quoted && (byte == '"' || byte == '\\')))
            return 0;
    }
    return 1;
}

enum { DIGITS = 24 };

/* A whole number that is not negative, in ASCII, at the end of the buffer. */
static int number_of(PyObject *value, char buffer[DIGITS], Word *word)
{
    if (value == NULL || !PyLong_CheckExact(value))
        return 0;
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow || number < 0)
        return 0;
    char *at = buffer + DIGITS;
    do {
        *--at = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
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
    tenths /= 10;
    do {
        *--at = (char)('0' + tenths % 10);
        tenths /= 10;
    } while (tenths > 0);
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
} Gatherer;

/* The next request id of our own, as the digits behind the prefix. 0 to decline, -1 with an error. */
static int next_id(Gatherer *gatherer, char buffer[DIGITS], Word *digits)
{
    PyObject *number = PyIter_Next(gatherer->serial);
    if (number == NULL)
        return PyErr_Occurred() ? -1 : 0;
    int overflow = 1;
    long long left = PyLong_CheckExact(number) ? PyLong_AsLongLongAndOverflow(number, &overflow) : 0;
    Py_DECREF(number);
    if (overflow || left < 0)
        return 0;
    char *at = buffer + DIGITS;
    do {
        *--at = "0123456789abcdef"[left % 16];
        left /= 16;
    } while (left > 0);
    *digits = (Word){at, buffer + DIGITS - at};
    return 1;
}

/* The line of a finished exchange: see `proxy.worker.access_lines.text_line`. NULL without an error
 * to decline. Where the request has no id, ``own_id`` stands for it, or the gatherer's next one. */
static PyObject *line_of(PyObject *at, PyObject *finished, PyObject *own_id, Gatherer *gatherer)
{
    if (!Py_IS_TYPE(finished, exchanges.type))
        return NULL;
    PyObject *connection = get(&exchanges, finished, E_CONNECTION);
    PyObject *request = get(&exchanges, finished, E_REQUEST);
    PyObject *response = get(&exchanges, finished, RESPONSE);
    if (connection == NULL || !Py_IS_TYPE(connection, connections.type) || request == NULL
        || !Py_IS_TYPE(request, requests.type) || response == NULL
        || !Py_IS_TYPE(response, responses.type))
        return NULL;
    PyObject *known = get(&connections, connection, NAMED_IN_LOG);
    PyObject *host = get(&requests, request, HOST);
    PyObject *method = get(&requests, request, METHOD), *target = get(&requests, request, TARGET);
    PyObject *id = get(&requests, request, ID);
    if (known == NULL || !PyTuple_CheckExact(known) || PyTuple_GET_SIZE(known) != 3
        || get(&connections, connection, PROXIES) != Py_None || !is_bytes(host)
        || !is_bytes(method) || !is_bytes(target) || !is_bytes(id))
        return NULL;
    PyObject *named = PyTuple_GET_ITEM(known, 0);
    if (named != host
        && !(is_bytes(named) && is(PyBytes_AS_STRING(named), PyBytes_GET_SIZE(named),
                                   PyBytes_AS_STRING(host), PyBytes_GET_SIZE(host))))
        return NULL;
    Word parties, tls, moment, request_id, more_id = {"", 0}, handler, backend, error, status, sent;
    Word taken;
    char of_status[DIGITS], of_sent[DIGITS], of_taken[DIGITS], of_id[DIGITS];
    PyObject *broken = get(&exchanges, finished, E_ERROR);
    if (broken == NULL || !PyUnicode_CheckExact(broken) || PyUnicode_GET_LENGTH(broken) == 0) {
        if (broken != Py_None)
            return NULL;
        broken = get(&responses, response, R_ERROR);
    }
    if (!word_of(at, &moment) || !word_of(PyTuple_GET_ITEM(known, 1), &parties)
        || !word_of(PyTuple_GET_ITEM(known, 2), &tls) || !word_of(own_id, &request_id)
        || !word_or_dash(get(&responses, response, HANDLER), &handler)
        || !word_or_dash(get(&responses, response, R_BACKEND), &backend)
        || !word_or_dash(broken, &error)
        || !number_of(get(&responses, response, STATUS), of_status, &status)
        || !number_of(get(&exchanges, finished, SENT), of_sent, &sent)
        || !duration_of(get(&exchanges, finished, DURATION), of_taken, &taken))
        return NULL;
    Word asked_method = {PyBytes_AS_STRING(method), PyBytes_GET_SIZE(method)};
    Word asked_target = {PyBytes_AS_STRING(target), PyBytes_GET_SIZE(target)};
    if (!is_clear(asked_method.text, asked_method.size, 1)
        || !is_clear(asked_target.text, asked_target.size, 1))
        return NULL;
    if (PyBytes_GET_SIZE(id) > 0) {
        request_id = (Word){PyBytes_AS_STRING(id), PyBytes_GET_SIZE(id)};
        if (!is_clear(request_id.text, request_id.size, 0))
            return NULL;
    } else if (gatherer != NULL && next_id(gatherer, of_id, &more_id) != 1) {
        return NULL;
    }
    const Word words[] = {
        moment, {" access ", 8}, parties, {" \"", 2}, asked_method, {" ", 1}, asked_target,
        {"\" ", 2}, status, {" ", 1}, sent, {" ", 1}, taken, {" ", 1}, handler, {" ", 1}, backend,
        {" ", 1}, request_id, more_id, {" ", 1}, tls, {" ", 1}, error, {"\n", 1},
    };
    Py_ssize_t size = 0;
    for (Py_ssize_t place = 0; place < COUNT(words); place++) {
        if (words[place].size > PY_SSIZE_T_MAX / 64 - size)
            return NULL;
        size += words[place].size;
    }
    PyObject *line = PyUnicode_New(size, 127);
    if (line == NULL)
        return NULL;
    char *to = (char *)PyUnicode_1BYTE_DATA(line);
    for (Py_ssize_t place = 0; place < COUNT(words); place++) {
        memcpy(to, words[place].text, (size_t)words[place].size);
        to += words[place].size;
    }
    return line;
}

/* text_line(moment, exchange, own_id): a line, or None to decline. */
static PyObject *text_line(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || exchanges.type == NULL || requests.type == NULL) {
        PyErr_SetString(PyExc_TypeError, "text_line needs three arguments, and `bind` before");
        return NULL;
    }
    PyObject *line = line_of(args[0], args[1], args[2], NULL);
    if (line == NULL && !PyErr_Occurred())
        Py_RETURN_NONE;
    return line;
}

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
    PyObject *line = line_of(moment, finished, gatherer->prefix, gatherer);
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

/* gatherer(lines, serial, prefix, say): one with the method `gather`. */
static PyObject *gatherer(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 4 || !PyList_CheckExact(args[0]) || !PyIter_Check(args[1])
        || !PyUnicode_CheckExact(args[2]) || !PyCallable_Check(args[3])) {
        PyErr_SetString(PyExc_TypeError, "gatherer needs a list, an iterator, a text and a function");
        return NULL;
    }
    Gatherer *made = (Gatherer *)gatherer_type->tp_alloc(gatherer_type, 0);
    if (made != NULL) {
        made->lines = Py_NewRef(args[0]);
        made->serial = Py_NewRef(args[1]);
        made->prefix = Py_NewRef(args[2]);
        made->say = Py_NewRef(args[3]);
    }
    return (PyObject *)made;
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
    {"gatherer", (PyCFunction)(void (*)(void))gatherer, METH_FASTCALL, NULL},
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
    if (empty == NULL || zero == NULL || content_length == NULL || gatherer_type == NULL)
        return NULL;
    PyObject *module = PyModule_Create(&definition);
    /* Of this file and of what calls it; `proxy.accelerated` has the same number. */
    if (module != NULL && PyModule_AddIntConstant(module, "REVISION", 2) < 0)
        Py_CLEAR(module);
    return module;
}
