#include "daemon/control.h"

#include "daemon/audit.h"
#include "daemon/control_peer.h"
#include "daemon/control_reply.h"
#include "daemon/control_socket.h"
#include "daemon/log.h"
#include "daemon/verbs.h"
#include "proto/wire/encode.h"
#include "proto/wire/message.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#define FIRST_BUFFER     4096
#define ACCEPTS_PER_TURN 64
#define PAUSE_MS         200 /* of accepting, when there is neither a descriptor nor a reserve */

struct peer {
	LIST_ENTRY(peer) link;
	struct mt_control *control;
	uv_pipe_t pipe;
	uv_timer_t timer;
	unsigned handles; /* that still have to close */
	enum mt_rights rights;
	struct mt_actor actor;
	char *in;
	size_t in_len;
	size_t in_cap;
	struct mt_reply *reply; /* owed */
	uv_write_t write;
	char *out;       /* being written */
	size_t out_left; /* at the last look */
	bool last;       /* close once it is written */
	bool gone;
};

struct mt_control {
	uv_loop_t *loop;
	struct mt_appliance *appliance;
	struct mt_control_socket socket;
	uv_poll_t poll;
	uv_timer_t pause;
	int reserve; /* a descriptor kept for the moment when there are none left; -1 when in use */
	LIST_HEAD(, peer) peers;
	unsigned count;
	unsigned readers;
	bool accepting;
	bool short_of; /* descriptors; told once */
	bool closing;
};

static void next_request(struct peer *p);
static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);
static void resume(struct mt_control *c);

static void wipe_free(char *text, size_t len)
{
	if (text != NULL) {
		mt_wipe(text, len); /* keys and profiles pass through here */
		free(text);
	}
}

static void on_peer_closed(uv_handle_t *handle)
{
	struct peer *p = handle->data;

	if (--p->handles > 0) {
		return;
	}
	wipe_free(p->in, p->in_cap);
	wipe_free(p->out, p->out != NULL ? strlen(p->out) : 0);
	free(p);
}

static void refill_reserve(struct mt_control *c)
{
	if (c->reserve < 0) {
		c->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	}
}

/* The answer that is owed will find nobody. */
static void forsake(struct peer *p)
{
	struct mt_reply *reply = p->reply;

	p->reply = NULL;
	if (reply != NULL) {
		mt_reply_forsake(reply);
	}
}

static void cut(struct peer *p)
{
	struct mt_control *c = p->control;

	if (p->gone) {
		return;
	}
	p->gone = true;
	LIST_REMOVE(p, link);
	c->count--;
	if (p->rights == MT_RIGHTS_READ) {
		c->readers--;
	}
	forsake(p);
	uv_close((uv_handle_t *)&p->pipe, on_peer_closed);
	uv_close((uv_handle_t *)&p->timer, on_peer_closed);
	/* The descriptor is free from here on: first come, first served. */
	refill_reserve(c);
	resume(c);
}

static void on_written(uv_write_t *write, int status)
{
	struct peer *p = write->data;

	if (p->gone) {
		return; /* cancelled by the close; on_peer_closed frees */
	}
	wipe_free(p->out, strlen(p->out));
	p->out = NULL;
	if (status != 0 || p->last) {
		cut(p);
		return;
	}
	next_request(p);
}

static void on_slow_reader(uv_timer_t *timer)
{
	struct peer *p = timer->data;
	size_t left = uv_stream_get_write_queue_size((uv_stream_t *)&p->pipe);

	if (left >= p->out_left) {
		mt_log(MT_LOG_WARN, "control_peer_cut",
			MT_LOG_TEXT("reason", "it does not read its answer"));
		cut(p);
		return;
	}
	p->out_left = left;
}

/* Takes `line`. */
static void send_line(struct peer *p, char *line)
{
	uv_buf_t buf;

	if (line == NULL) {
		mt_log(MT_LOG_ERROR, "control_answer_failed",
			MT_LOG_TEXT("error", mt_strerror(-ENOMEM)));
		cut(p);
		return;
	}
	p->out = line;
	buf = uv_buf_init(line, (unsigned)strlen(line));
	p->write.data = p;
	if (uv_write(&p->write, (uv_stream_t *)&p->pipe, &buf, 1, on_written) != 0) {
		cut(p);
		return;
	}
	p->out_left = uv_stream_get_write_queue_size((uv_stream_t *)&p->pipe);
	/* Fails only for a closing handle, as everywhere below. */
	(void)uv_timer_start(
		&p->timer, on_slow_reader, MT_CONTROL_REQUEST_MS, MT_CONTROL_REQUEST_MS);
}

static void deliver(void *user, char *line)
{
	struct peer *p = user;

	p->reply = NULL;
	(void)uv_read_stop((uv_stream_t *)&p->pipe); /* always succeeds */
	send_line(p, line);
}

static void on_late(uv_timer_t *timer)
{
	struct peer *p = timer->data;

	mt_log(MT_LOG_ERROR, "control_answer_late");
	forsake(p);
	(void)uv_read_stop((uv_stream_t *)&p->pipe); /* always succeeds */
	p->last = true;
	send_line(p, mt_message_format_error("timeout",
			     "the daemon did not finish in time; the change may be in force or not",
			     "mytunnelctl status"));
}

static void refuse(struct peer *p, const char *code, const char *message)
{
	p->last = true;
	send_line(p, mt_message_format_error(code, message, ""));
}

static void handle(struct peer *p, const char *line, size_t len)
{
	json_t *root = NULL;
	json_t *args = NULL;
	const char *name = NULL;
	const struct mt_verb *verb;
	char why[256];
	struct mt_reply *reply;

	if (mt_message_parse_request(&root, &name, &args, line, len, why, sizeof(why)) != 0) {
		refuse(p, "malformed", why);
		return;
	}
	verb = mt_verb_find(name);
	reply = calloc(1, sizeof(*reply));
	if (reply == NULL) {
		cut(p);
	} else {
		reply->peer = p;
		reply->deliver = deliver;
		reply->appliance = p->control->appliance;
		reply->actor = p->actor;
		p->reply = reply;
		(void)uv_timer_start(&p->timer, on_late, MT_CONTROL_ANSWER_MS, 0);
		if (verb == NULL) {
			mt_reply_error(reply, "unknown_verb", "this daemon does not know that verb",
				"mytunnelctl version shows whether both programs are of one "
				"version");
		} else if (verb->needs > p->rights) {
			mt_log(MT_LOG_WARN, "control_denied", MT_LOG_NUMBER("uid", p->actor.uid),
				MT_LOG_TEXT("verb", verb->name),
				MT_LOG_TEXT("reason", "it may read, not change"));
			mt_reply_error(reply, "denied",
				"this needs root or membership in the group " MT_ADMIN_GROUP
				"; nothing was changed",
				"sudo mytunnelctl ...");
		} else {
			if (verb->needs == MT_RIGHTS_ADMIN) {
				reply->change = verb;
				reply->args = json_incref(args);
				reply->before = mt_audit_before(reply->appliance, name, args);
			}
			verb->run(p->control->appliance, args, reply);
		}
	}
	json_decref(root);
}

static void on_slow_writer(uv_timer_t *timer)
{
	struct peer *p = timer->data;

	if (p->in_len > 0) {
		mt_log(MT_LOG_WARN, "control_peer_cut",
			MT_LOG_TEXT("reason", "its request took too long"));
	}
	cut(p);
}

static int grow(struct peer *p)
{
	size_t cap = p->in_cap == 0 ? FIRST_BUFFER : p->in_cap * 2;
	char *in = malloc(cap);

	if (in == NULL) {
		return -ENOMEM;
	}
	if (p->in_len > 0) {
		memcpy(in, p->in, p->in_len);
	}
	wipe_free(p->in, p->in_cap);
	p->in = in;
	p->in_cap = cap;
	return 0;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	struct peer *p = handle->data;

	(void)suggested;
	*buf = uv_buf_init(NULL, 0); /* read answers ENOBUFS then */
	if (p->in_len < p->in_cap || (p->in_cap <= MT_MESSAGE_MAX && grow(p) == 0)) {
		*buf = uv_buf_init(p->in + p->in_len, (unsigned)(p->in_cap - p->in_len));
	}
}

/* Handles the first complete line, if there is one; returns whether there was. */
static bool take_line(struct peer *p)
{
	char *end = p->in_len > 0 ? memchr(p->in, '\n', p->in_len) : NULL;
	size_t len;
	char *line;

	if (end == NULL) {
		return false;
	}
	len = (size_t)(end - p->in);
	line = malloc(len + 1);
	(void)uv_read_stop((uv_stream_t *)&p->pipe); /* always succeeds */
	if (line == NULL) {
		cut(p);
		return true;
	}
	memcpy(line, p->in, len);
	line[len] = '\0';
	memmove(p->in, end + 1, p->in_len - len - 1);
	p->in_len -= len + 1;
	handle(p, line, len);
	wipe_free(line, len);
	if (p->reply != NULL && !p->gone && p->in_len == 0) {
		/* Only to see it leave; without that the answer finds out. */
		(void)uv_read_start((uv_stream_t *)&p->pipe, on_alloc, on_read);
	}
	return true;
}

static bool has_hung_up(const struct peer *p)
{
	int fd = -1;

	return uv_fileno((const uv_handle_t *)&p->pipe, &fd) != 0 || mt_control_has_hung_up(fd);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct peer *p = stream->data;

	(void)buf;
	if (p->reply != NULL && n >= 0) {
		/* The next request has time; it says that the peer is there. */
		p->in_len += (size_t)n;
		if (n > 0) {
			(void)uv_read_stop(stream); /* always succeeds */
		}
		return;
	}
	if (p->reply != NULL && n == UV_EOF && !has_hung_up(p)) {
		return; /* it has nothing more to say, and listens */
	}
	if (n == UV_ENOBUFS || (n > 0 && p->in_len + (size_t)n > MT_MESSAGE_MAX &&
				       memchr(p->in, '\n', p->in_len + (size_t)n) == NULL)) {
		(void)uv_read_stop(stream); /* always succeeds */
		refuse(p, "too_long", "the request is too long");
		return;
	}
	if (n < 0) {
		cut(p);
		return;
	}
	p->in_len += (size_t)n;
	(void)take_line(p); /* otherwise more is to come */
}

static void next_request(struct peer *p)
{
	(void)uv_timer_start(&p->timer, on_slow_writer, MT_CONTROL_REQUEST_MS, 0);
	if (!take_line(p) && uv_read_start((uv_stream_t *)&p->pipe, on_alloc, on_read) != 0) {
		cut(p);
	}
}

/* Takes `fd`. */
static void welcome(
	struct mt_control *c, int fd, enum mt_rights rights, const struct mt_actor *actor)
{
	struct peer *p = calloc(1, sizeof(*p));

	if (p == NULL) {
		(void)close(fd); /* nothing was written */
		return;
	}
	p->control = c;
	p->rights = rights;
	p->actor = *actor;
	p->handles = 2;
	p->pipe.data = p;
	p->timer.data = p;
	/* Neither initialisation can fail. */
	(void)uv_pipe_init(c->loop, &p->pipe, 0);
	(void)uv_timer_init(c->loop, &p->timer);
	LIST_INSERT_HEAD(&c->peers, p, link);
	c->count++;
	if (rights == MT_RIGHTS_READ) {
		c->readers++;
	}
	if (uv_pipe_open(&p->pipe, fd) != 0) {
		(void)close(fd); /* nothing was written */
		cut(p);
		return;
	}
	next_request(p);
}

/* Takes `fd`. One line, as far as the socket's buffer takes it, and the end: who has no rights
 * holds no place. */
static void turn_away(int fd, const char *code, const char *message)
{
	char *line = mt_message_format_error(code, message, "");

	if (line != NULL) {
		(void)send(fd, line, strlen(line), MSG_DONTWAIT | MSG_NOSIGNAL); /* best effort */
	}
	free(line);
	(void)close(fd); /* as above */
}

static void admit(struct mt_control *c, int fd)
{
	enum mt_rights rights = MT_RIGHTS_NONE;
	struct mt_actor actor = {.uid = (uid_t)-1};
	int rv = mt_control_identify(fd, &rights, &actor.uid, &actor.pid);

	if (rv != 0 || rights == MT_RIGHTS_NONE) {
		mt_log(MT_LOG_WARN, "control_denied", MT_LOG_NUMBER("uid", actor.uid),
			MT_LOG_TEXT("reason", rv != 0 ? mt_strerror(rv) : "no rights"));
		turn_away(fd, "denied",
			"this needs root or membership in the group " MT_ADMIN_GROUP
			" (or " MT_READ_GROUP " for reading verbs)");
	} else if (rights == MT_RIGHTS_READ && c->readers >= MT_CONTROL_READERS_MAX) {
		turn_away(fd, "busy", "too many control connections are open");
	} else {
		welcome(c, fd, rights, &actor);
	}
}

static void on_pause(uv_timer_t *timer)
{
	struct mt_control *c = timer->data;

	refill_reserve(c);
	resume(c);
}

static void on_incoming(uv_poll_t *poll, int status, int events)
{
	struct mt_control *c = poll->data;
	int fd;

	(void)status;
	(void)events;
	for (unsigned i = 0; c->accepting; i++) {
		if (i == ACCEPTS_PER_TURN) {
			return; /* other work first; the poll calls again */
		}
		if (c->count >= MT_CONTROL_PEERS_MAX) {
			c->accepting = false; /* until a peer leaves, in 5 s at most */
			break;
		}
		fd = accept4(c->socket.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0 && (errno == EMFILE || errno == ENFILE) && c->reserve >= 0) {
			(void)close(c->reserve); /* its place is what counts */
			c->reserve = -1;
			fd = accept4(c->socket.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		}
		if (fd >= 0) {
			c->short_of = false;
			admit(c, fd);
			refill_reserve(c);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
			   errno == ENOBUFS) {
			if (!c->short_of) {
				mt_log(MT_LOG_WARN, "control_accept_paused",
					MT_LOG_TEXT("error", mt_strerror(-errno)));
			}
			c->short_of = true;
			c->accepting = false;
			(void)uv_timer_start(&c->pause, on_pause, PAUSE_MS, 0);
		} else if (errno != EINTR && errno != ECONNABORTED) {
			return; /* nobody waits */
		}
	}
	(void)uv_poll_stop(&c->poll); /* always succeeds */
}

static void resume(struct mt_control *c)
{
	if (!c->accepting && !c->closing && c->count < MT_CONTROL_PEERS_MAX) {
		c->accepting = uv_poll_start(&c->poll, UV_READABLE, on_incoming) == 0;
	}
}

int mt_control_open(struct mt_control **out, uv_loop_t *loop, const char *dir,
	struct mt_appliance *appliance, char *why, size_t why_cap)
{
	struct mt_control *c = calloc(1, sizeof(*c));
	int rv;

	if (c == NULL) {
		(void)snprintf(why, why_cap, "out of memory");
		return -ENOMEM;
	}
	c->loop = loop;
	c->appliance = appliance;
	c->reserve = -1;
	LIST_INIT(&c->peers);
	rv = mt_control_socket_open(&c->socket, dir, why, why_cap);
	if (rv != 0) {
		free(c);
		return rv;
	}
	rv = uv_poll_init(loop, &c->poll, c->socket.fd);
	if (rv != 0) {
		(void)snprintf(why, why_cap, "the control socket: %s", mt_strerror(rv));
		mt_control_socket_close(&c->socket);
		free(c);
		return rv;
	}
	c->poll.data = c;
	c->pause.data = c;
	(void)uv_timer_init(loop, &c->pause); /* cannot fail */
	refill_reserve(c);
	resume(c);
	(void)uv_timer_start(
		&c->pause, on_pause, PAUSE_MS, PAUSE_MS); /* fails only for a closing handle */
	*out = c;
	return 0;
}

void mt_control_close(struct mt_control *c)
{
	struct peer *p;

	c->closing = true;
	while ((p = LIST_FIRST(&c->peers)) != NULL) {
		cut(p);
	}
	uv_close((uv_handle_t *)&c->poll, NULL);
	uv_close((uv_handle_t *)&c->pause, NULL);
	mt_control_socket_close(&c->socket);
	if (c->reserve >= 0) {
		(void)close(c->reserve); /* nothing was written */
		c->reserve = -1;
	}
}

void mt_control_free(struct mt_control *c)
{
	free(c);
}
