/* A mock of OpenAI's API that uses hardly any CPU time, so that a benchmark measures the server in front of it.
 *
 *     upstream PORT [--delay-ms N]             PORT 0: any free port; prints its URL once it listens
 *
 *     POST /v1/chat/completions, /v1/embeddings   send a fixed answer of OpenAI's shape and size, after N ms
 *     PUT  /delay-ms/N                            set the delay
 *     GET  /answered                              return the number of answered POSTs, to detect answers from a cache
 *
 * socket -> input -> read_request -> (queue, if there is a delay) -> answer -> socket
 * One thread, one edge-triggered epoll loop, HTTP/1.1 with keep-alive, on 127.0.0.1 only. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define INPUT_SIZE 16384 /* the maximum size of a request; the benchmark's have a few hundred bytes */
#define DIMENSIONS 1536  /* text-embedding-3-small */

typedef struct {
    char *bytes;
    size_t length;
} Answer;

typedef struct Connection {
    int fd; /* -1: closed while its answer was in the queue */
    bool waiting, last; /* waiting: in the queue; last: close after this answer */
    size_t received, left;
    const char *output;
    const Answer *answer;
    int64_t due_us;
    struct Connection *next;
    char input[INPUT_SIZE];
} Connection;

static Answer completion, vector_as_numbers, vector_as_base64, not_found, refused, done, count;
static Connection *first_waiting, *last_waiting;
static int64_t delay_us;
static long answered;
static int epoll;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

/* Return a complete HTTP answer, with as many headers as OpenAI's: proxies read, log and copy them. */
static Answer http(const char *status, const char *body)
{
    Answer made;
    int length = asprintf(&made.bytes,
        "HTTP/1.1 %s\r\nDate: Mon, 01 Jun 2026 12:00:00 GMT\r\nContent-Type: application/json\r\n"
        "Content-Length: %zu\r\nopenai-organization: benchmark\r\nopenai-processing-ms: 320\r\n"
        "openai-version: 2020-10-01\r\nx-ratelimit-limit-requests: 10000\r\nx-ratelimit-limit-tokens: 2000000\r\n"
        "x-ratelimit-remaining-requests: 9999\r\nx-ratelimit-remaining-tokens: 1999990\r\n"
        "x-ratelimit-reset-requests: 6ms\r\nx-ratelimit-reset-tokens: 0s\r\n"
        "x-request-id: req_5f1b0a6c2d7e4b83a1c96e0f7d2b4a58\r\nServer: upstream\r\n\r\n%s",
        status, strlen(body), body);
    if (length < 0)
        die("asprintf");
    made.length = length;
    return made;
}

/* Return an answer with a unit vector as JSON numbers, or as base64 of float32, which OpenAI's SDK requests. */
static Answer embedding(bool base64)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char vector[DIMENSIONS * 16], body[sizeof vector + 256], *end = vector;
    float values[DIMENSIONS];
    for (int i = 0; i < DIMENSIONS; i++) /* spread over -0.044 .. 0.044, unordered */
        values[i] = ((i * 7919 + 104) % 1999 / 999.5f - 1) * 0.0442f;
    const unsigned char *raw = (unsigned char *)values;
    *end++ = base64 ? '"' : '[';
    for (size_t i = 0; base64 && i < sizeof values; i += 3) { /* 6,144 bytes: no padding */
        unsigned triple = raw[i] << 16 | raw[i + 1] << 8 | raw[i + 2];
        for (int shift = 18; shift >= 0; shift -= 6)
            *end++ = digits[triple >> shift & 63];
    }
    for (int i = 0; !base64 && i < DIMENSIONS; i++)
        end += sprintf(end, i ? ",%.9f" : "%.9f", values[i]);
    *end++ = base64 ? '"' : ']';
    *end = 0;
    snprintf(body, sizeof body,
        "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":0,\"embedding\":%s}],"
        "\"model\":\"text-embedding-3-small\",\"usage\":{\"prompt_tokens\":1,\"total_tokens\":1}}", vector);
    return http("200 OK", body);
}

static void prepare_answers(void)
{
    completion = http("200 OK",
        "{\"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\",\"object\":\"chat.completion\",\"created\":1780000000,"
        "\"model\":\"gpt-4o-mini-2024-07-18\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"
        "\"Hello! I am here to help with anything you would like to know about our products, your order or your "
        "account. What can I do for you today?\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,"
        "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":31,\"total_tokens\":50,"
        "\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},\"completion_tokens_details\":"
        "{\"reasoning_tokens\":0,\"audio_tokens\":0,\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}},"
        "\"service_tier\":\"default\",\"system_fingerprint\":\"fp_b376dfbbd5\"}");
    vector_as_numbers = embedding(false);
    vector_as_base64 = embedding(true);
    not_found = http("404 Not Found", "{\"error\":{\"message\":\"Invalid URL\",\"type\":\"invalid_request_error\"}}");
    refused = http("400 Bad Request",
        "{\"error\":{\"message\":\"Only whole JSON answers, to HTTP/1.1 with Content-Length, up to 16 KB, not pipelined\","
        "\"type\":\"invalid_request_error\"}}");
    done = http("200 OK", "{}");
}

static const Answer *count_answered(void)
{
    char body[32];
    snprintf(body, sizeof body, "%ld", answered);
    free(count.bytes);
    count = http("200 OK", body);
    return &count;
}

static const Answer *route(const char *head, const char *body, size_t length)
{
    if (!strncmp(head, "POST /v1/chat/completions ", 26)) {
        if (memmem(body, length, "\"stream\":true", 13) || memmem(body, length, "\"stream\": true", 14))
            return &refused; /* a JSON answer would be measured as a very fast stream */
        answered++;
        return &completion;
    }
    if (!strncmp(head, "POST /v1/embeddings ", 20)) {
        answered++;
        return memmem(body, length, "\"base64\"", 8) ? &vector_as_base64 : &vector_as_numbers;
    }
    if (!strncmp(head, "PUT /delay-ms/", 14)) {
        delay_us = strtol(head + 14, NULL, 10) * 1000;
        return &done;
    }
    return strncmp(head, "GET /answered ", 14) ? &not_found : count_answered();
}

/* Remove the request from the input and return its answer, or NULL if the request is incomplete. */
static const Answer *read_request(Connection *c)
{
    char *end = memmem(c->input, c->received, "\r\n\r\n", 4), *digits_end = NULL;
    if (!end && c->received < INPUT_SIZE)
        return NULL;
    size_t head = end ? end + 4 - c->input : 0, length = 0;
    if (end) {
        *end = 0; /* terminate the head for the string functions */
        char *field = strcasestr(c->input, "\r\nContent-Length:");
        if (field)
            length = strtoul(field + 17, &digits_end, 10);
        bool has_length = field ? !*digits_end || *digits_end == '\r' : !strncmp(c->input, "GET ", 4);
        if (!has_length || !strstr(c->input, " HTTP/1.1"))
            head = 0;
        c->last = strcasestr(c->input, "\r\nConnection: close");
        *end = '\r';
    }
    if (head && length <= INPUT_SIZE - head && c->received < head + length)
        return NULL;
    bool readable = head && c->received == head + length;
    c->last |= !readable; /* the start of the next request is unknown */
    c->received = 0;
    return readable ? route(c->input, c->input + head, length) : &refused;
}

static void drop(Connection *c)
{
    close(c->fd);
    c->fd = -1;
    if (!c->waiting) /* otherwise answer_due frees it */
        free(c);
}

/* Send until the socket's buffer is full; epoll reports when there is room for the rest. */
static void flush(Connection *c)
{
    while (c->left) {
        ssize_t sent = send(c->fd, c->output, c->left, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno == EAGAIN)
            return;
        if (sent < 0)
            return drop(c);
        c->output += sent;
        c->left -= sent;
    }
    if (c->last)
        drop(c);
}

static void send_answer(Connection *c, const Answer *answer)
{
    c->output = answer->bytes;
    c->left = answer->length;
    flush(c);
}

static void answer_request(Connection *c)
{
    const Answer *answer = read_request(c);
    if (answer && delay_us && (answer == &completion || answer == &vector_as_numbers || answer == &vector_as_base64)) {
        c->answer = answer;
        c->waiting = true;
        c->due_us = now_us() + delay_us;
        c->next = NULL;
        *(first_waiting ? &last_waiting->next : &first_waiting) = c;
        last_waiting = c;
    } else if (answer)
        send_answer(c, answer);
}

/* Send the answers that are due. The queue is in order of arrival, so after the delay was reduced, new requests still
 * wait for the earlier ones. */
static void answer_due(void)
{
    int64_t now = first_waiting ? now_us() : 0;
    while (first_waiting && first_waiting->due_us <= now) {
        Connection *c = first_waiting;
        first_waiting = c->next;
        c->waiting = false;
        if (c->fd < 0)
            free(c);
        else
            send_answer(c, c->answer);
    }
}

static void on_event(Connection *c, uint32_t events)
{
    while (events & EPOLLIN && c->received < INPUT_SIZE) {
        size_t room = INPUT_SIZE - c->received;
        ssize_t got = recv(c->fd, c->input + c->received, room, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            break;
        if (got <= 0)
            return drop(c);
        c->received += got;
        if ((size_t)got < room)
            break; /* the socket is empty; more input is a new event */
    }
    if (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR) || (c->received && (c->waiting || c->left)))
        return drop(c); /* disconnected, or a second request before the first answer */
    if (c->left)
        flush(c);
    else if (c->received)
        answer_request(c);
}

static void accept_all(int listener)
{
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        Connection *c = malloc(sizeof *c); /* not calloc: most of the input buffer is never used */
        if (!c)
            die("malloc");
        memset(c, 0, offsetof(Connection, input));
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        struct epoll_event event = {EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, {.ptr = c}};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
            die("epoll_ctl");
    }
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
        die("accept"); /* e.g. out of file descriptors: figures with refused connections would be wrong */
}

static int listen_on(int port)
{
    struct sockaddr_in address = {AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}, {0}};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096))
        die("listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("http://127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

int main(int length, char **arguments)
{
    if (length != 2 && !(length == 4 && !strcmp(arguments[2], "--delay-ms"))) {
        fprintf(stderr, "usage: %s PORT [--delay-ms N]\n", arguments[0]);
        return 2;
    }
    delay_us = length == 4 ? strtol(arguments[3], NULL, 10) * 1000 : 0;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prepare_answers();
    int listener = listen_on(atoi(arguments[1]));
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {EPOLLIN, {.ptr = NULL}}, events[512];
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event))
        die("epoll");
    for (;;) {
        int64_t wait = first_waiting ? (first_waiting->due_us - now_us() + 999) / 1000 : -1;
        int ready = epoll_wait(epoll, events, 512, first_waiting && wait < 0 ? 0 : wait);
        if (ready < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < ready; i++)
            events[i].data.ptr ? on_event(events[i].data.ptr, events[i].events) : accept_all(listener);
        answer_due();
    }
}
