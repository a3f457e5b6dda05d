#include "daemon/connect.h"

#include "daemon/connect_order.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct attempt {
	struct mt_poll_item item;
	struct mt_connect *owner;
	bool open;
};

struct mt_connect {
	struct mt_env *env;
	struct mt_access_request request;
	void (*on_done)(void *user, int err, int fd, const struct mt_addr *addr);
	void *user;
	struct mt_deadline next_due;
	struct mt_deadline overall;
	int err;
	size_t count;
	size_t next;    /* address of the next attempt */
	size_t pending; /* attempts that are open */
	struct mt_addr addrs[MT_CONNECT_ADDRS_MAX];
	struct attempt attempts[MT_CONNECT_ADDRS_MAX];
};

static void release(struct mt_connect *c)
{
	mt_deadline_cancel(&c->next_due);
	mt_deadline_cancel(&c->overall);
	for (size_t i = 0; i < c->next; i++) {
		if (c->attempts[i].open) {
			mt_poller_close(c->env->poller, &c->attempts[i].item);
		}
	}
	mt_mem_release(c->env->mem, c);
}

static void finish(struct mt_connect *c, int err, int fd, const struct mt_addr *addr)
{
	void (*on_done)(void *, int, int, const struct mt_addr *) = c->on_done;
	void *user = c->user;
	struct mt_addr target = {.len = 0};

	if (addr != NULL) {
		target = *addr;
	}
	release(c);
	on_done(user, err, fd, &target);
}

/* Without a descriptor or memory this side cannot try other addresses either. */
static bool is_own_failure(int err)
{
	return err == -EMFILE || err == -ENFILE || err == -ENOBUFS || err == -ENOMEM;
}

static void on_ready(struct mt_poll_item *item, unsigned events);

static int open_attempt(struct mt_connect *c, size_t index)
{
	struct attempt *a = &c->attempts[index];
	const struct mt_addr *addr = &c->addrs[index];
	const int on = 1;
	int fd = -1;
	int rv = mt_access_check_target(c->env->snapshot, &c->request, addr);

	if (rv < 0) {
		return rv;
	}
	fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		rv = -errno;
		goto out;
	}
	/* Costs latency at worst. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, &addr->sa, addr->len) < 0 && errno != EINPROGRESS) {
		rv = -errno;
		goto out;
	}
	/* A connect that has succeeded already is reported by the poller like any other. */
	rv = mt_poller_add(c->env->poller, &a->item, fd, on_ready);
	if (rv == 0) {
		a->owner = c;
		a->open = true;
		c->pending++;
		fd = -1;
	}
out:
	if (fd >= 0) {
		(void)close(fd); /* nothing was sent yet */
	}
	return rv;
}

/* Begins the next attempt that does not fail at once. Returns 0 when one is pending, else the error
 * of all. */
static int advance(struct mt_connect *c)
{
	int rv;

	while (c->next < c->count) {
		rv = open_attempt(c, c->next);
		c->next++;
		if (rv == 0) {
			if (c->next < c->count) {
				mt_deadline_set(
					&c->env->deadlines, &c->next_due, MT_CONNECT_DELAY_MS);
			}
			return 0;
		}
		c->err = mt_connect_better_error(c->err, rv);
		if (is_own_failure(rv)) {
			mt_count(&c->env->counters->errors, 1);
			c->err = rv;
			c->next = c->count;
		}
	}
	mt_deadline_cancel(&c->next_due);
	return c->pending > 0 ? 0 : c->err;
}

static void on_next_due(struct mt_deadline *deadline)
{
	struct mt_connect *c =
		(struct mt_connect *)((char *)deadline - offsetof(struct mt_connect, next_due));
	int rv = advance(c);

	if (rv < 0) {
		finish(c, rv, -1, NULL);
	}
}

static void on_overall(struct mt_deadline *deadline)
{
	struct mt_connect *c =
		(struct mt_connect *)((char *)deadline - offsetof(struct mt_connect, overall));

	finish(c, mt_connect_better_error(c->err, MT_E_TIMEOUT), -1, NULL);
}

static void on_ready(struct mt_poll_item *item, unsigned events)
{
	struct attempt *a = (struct attempt *)((char *)item - offsetof(struct attempt, item));
	struct mt_connect *c = a->owner;
	size_t index = (size_t)(a - c->attempts);
	int err = 0;
	socklen_t len = sizeof(err);
	int fd;
	int rv;

	/* A socket with an error reports a hang-up. */
	if ((events & MT_POLL_HUP) != 0 &&
		getsockopt(item->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0) {
		err = errno;
	}
	if (err == 0 && !(events & MT_POLL_OUT)) {
		return;
	}
	if (err == 0) {
		fd = mt_poller_park(c->env->poller, item, events);
		a->open = false;
		finish(c, 0, fd, &c->addrs[index]);
		return;
	}
	mt_poller_close(c->env->poller, item);
	a->open = false;
	c->pending--;
	if (err == ECONNRESET) {
		/* Refusals have a code of their own: this target had accepted. */
		finish(c, -err, -1, &c->addrs[index]);
		return;
	}
	c->err = mt_connect_better_error(c->err, -err);
	/* A failure does not wait for the delay (section 5). */
	rv = advance(c);
	if (rv < 0) {
		finish(c, rv, -1, NULL);
	}
}

int mt_connect_start(struct mt_connect **out, const struct mt_connect_config *config)
{
	struct mt_connect *c = mt_mem_calloc(config->env->mem, sizeof(*c));
	int rv;

	if (c == NULL) {
		mt_count(&config->env->counters->errors, 1);
		return -ENOMEM;
	}
	c->env = config->env;
	c->request = config->request;
	c->on_done = config->on_done;
	c->user = config->user;
	c->err = 0;
	c->count = config->count < MT_CONNECT_ADDRS_MAX ? config->count : MT_CONNECT_ADDRS_MAX;
	memcpy(c->addrs, config->addrs, c->count * sizeof(*c->addrs));
	for (size_t i = 0; i < c->count; i++) {
		mt_addr_set_port(&c->addrs[i], config->request.port);
	}
	mt_connect_interleave(c->addrs, c->count);
	c->next_due.on_due = on_next_due;
	c->overall.on_due = on_overall;
	rv = c->count > 0 ? advance(c) : MT_E_DNS;
	if (rv < 0) {
		release(c);
		return rv;
	}
	mt_deadline_set(&c->env->deadlines, &c->overall, MT_CONNECT_TIMEOUT_MS);
	*out = c;
	return 0;
}

void mt_connect_cancel(struct mt_connect *c)
{
	release(c);
}
