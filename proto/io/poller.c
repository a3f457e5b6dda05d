#include "proto/io/poller.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_MAX 256
#define ROUNDS_MAX 4 /* fetches in one turn of the loop: the UDP side must get its share */
#define HANDLES    2
#define PLACES_MIN 64u
#define PARKED     (1u << 31) /* beside the events of a parked descriptor */

/* What a descriptor is to the set. */
struct place {
	struct mt_poll_item *item; /* NULL: parked, or not in the set */
	unsigned parked;
};

struct mt_poller {
	uv_poll_t poll;
	uv_idle_t idle; /* runs while items are deferred, and keeps the loop from waiting */
	int epoll_fd;
	int open_handles;
	int items;
	struct mt_poll_item deferred; /* head of a ring */
	struct place *places;         /* by descriptor */
	size_t place_count;
	struct epoll_event events[EVENTS_MAX];
	struct mt_poll_item *batch[EVENTS_MAX]; /* whose they are; NULL once removed */
};

static unsigned from_epoll(uint32_t events)
{
	unsigned ready = 0;

	if ((events & (EPOLLIN | EPOLLRDHUP)) != 0) {
		ready |= MT_POLL_IN;
	}
	if ((events & EPOLLOUT) != 0) {
		ready |= MT_POLL_OUT;
	}
	if ((events & EPOLLRDHUP) != 0) {
		ready |= MT_POLL_EOF;
	}
	if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
		ready |= MT_POLL_IN | MT_POLL_OUT | MT_POLL_EOF | MT_POLL_HUP;
	}
	return ready;
}

/* Handles one batch; returns false when nothing more is there. */
static bool run_batch(struct mt_poller *p)
{
	int n = epoll_wait(p->epoll_fd, p->events, EVENTS_MAX, 0);

	if (n <= 0) {
		return false;
	}
	for (int i = 0; i < n; i++) {
		struct place *place = &p->places[p->events[i].data.fd];

		p->batch[i] = place->item;
		if (place->item != NULL) {
			place->item->slot = i;
		} else if (place->parked != 0) {
			place->parked |= from_epoll(p->events[i].events);
		}
	}
	for (int i = 0; i < n; i++) {
		struct mt_poll_item *item = p->batch[i];

		if (item != NULL) { /* removed by a handler before it otherwise */
			item->slot = -1;
			item->on_ready(item, from_epoll(p->events[i].events));
		}
	}
	return n == EVENTS_MAX;
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
	struct mt_poller *p = handle->data;

	(void)status; /* an epoll set knows no errors */
	(void)events;
	for (int round = 0; round < ROUNDS_MAX && run_batch(p); round++) {
	}
}

static void ring_unlink(struct mt_poll_item *item)
{
	if (item->next != NULL) {
		item->prev->next = item->next;
		item->next->prev = item->prev;
		item->next = NULL;
		item->prev = NULL;
	}
}

static void ring_init(struct mt_poll_item *head)
{
	head->next = head;
	head->prev = head;
}

/* Before `at`, which for the head means last. */
static void ring_insert(struct mt_poll_item *at, struct mt_poll_item *item)
{
	item->prev = at->prev;
	item->next = at;
	at->prev->next = item;
	at->prev = item;
}

static void on_idle(uv_idle_t *handle)
{
	struct mt_poller *p = handle->data;
	struct mt_poll_item now;

	/* What handlers defer from here on is for the next turn. */
	ring_init(&now);
	if (p->deferred.next != &p->deferred) {
		ring_insert(&p->deferred, &now);
		ring_unlink(&p->deferred);
		ring_init(&p->deferred);
	}
	while (now.next != &now) {
		struct mt_poll_item *item = now.next;
		unsigned events = item->deferred;

		ring_unlink(item);
		item->deferred = 0;
		item->on_ready(item, events);
	}
	if (p->deferred.next == &p->deferred) {
		uv_idle_stop(&p->idle);
	}
}

int mt_poller_new(struct mt_poller **out, uv_loop_t *loop)
{
	struct mt_poller *p = calloc(1, sizeof(*p));
	int err;

	if (p == NULL) {
		return -ENOMEM;
	}
	ring_init(&p->deferred);
	p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (p->epoll_fd < 0) {
		err = -errno;
		goto out;
	}
	err = uv_poll_init(loop, &p->poll, p->epoll_fd);
	if (err != 0) {
		goto out;
	}
	p->poll.data = p;
	p->idle.data = p;
	p->open_handles = HANDLES;
	/* None of the two can fail: the first handle is good, idle handles always are. */
	(void)uv_idle_init(loop, &p->idle);
	err = uv_poll_start(&p->poll, UV_READABLE, on_poll);
	assert(err == 0);
	*out = p;
	return 0;
out:
	if (p->epoll_fd >= 0) {
		close(p->epoll_fd);
	}
	free(p);
	return err;
}

static void on_closed(uv_handle_t *handle)
{
	struct mt_poller *p = handle->data;

	if (--p->open_handles == 0) {
		free(p->places);
		free(p);
	}
}

void mt_poller_free(struct mt_poller *p)
{
	if (p == NULL) {
		return;
	}
	assert(p->items == 0);
	uv_close((uv_handle_t *)&p->poll, on_closed);
	uv_close((uv_handle_t *)&p->idle, on_closed);
	close(p->epoll_fd);
	p->epoll_fd = -1;
}

void mt_poller_init_item(
	struct mt_poll_item *item, void (*on_ready)(struct mt_poll_item *item, unsigned events))
{
	*item = (struct mt_poll_item){.fd = -1, .on_ready = on_ready, .slot = -1};
}

/* A place for `fd`: the table grows as the process opens more than ever. */
static int ensure_place(struct mt_poller *p, int fd)
{
	size_t count = p->place_count == 0 ? PLACES_MIN : p->place_count;
	struct place *places;

	if (fd < 0) {
		return -EBADF;
	}
	if ((size_t)fd < p->place_count) {
		return 0;
	}
	while (count <= (size_t)fd) {
		count *= 2;
	}
	places = realloc(p->places, count * sizeof(*places));
	if (places == NULL) {
		return -ENOMEM;
	}
	memset(places + p->place_count, 0, (count - p->place_count) * sizeof(*places));
	p->places = places;
	p->place_count = count;
	return 0;
}

int mt_poller_take(struct mt_poller *p, struct mt_poll_item *item, int fd,
	void (*on_ready)(struct mt_poll_item *item, unsigned events), unsigned *events)
{
	struct epoll_event event = {
		.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = fd};
	struct place *place;
	int rv = ensure_place(p, fd);

	mt_poller_init_item(item, on_ready);
	if (rv < 0) {
		return rv;
	}
	place = &p->places[fd];
	if (place->parked == 0 && epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
		return -errno;
	}
	*events = place->parked & ~PARKED;
	*place = (struct place){.item = item};
	item->fd = fd;
	p->items++;
	return 0;
}

int mt_poller_add(struct mt_poller *p, struct mt_poll_item *item, int fd,
	void (*on_ready)(struct mt_poll_item *item, unsigned events))
{
	unsigned events = 0;
	int rv = mt_poller_take(p, item, fd, on_ready, &events);

	if (rv == 0 && events != 0) {
		mt_poller_defer(p, item, events);
	}
	return rv;
}

static void forget(struct mt_poller *p, struct mt_poll_item *item)
{
	ring_unlink(item);
	item->deferred = 0;
	if (item->slot >= 0) {
		p->batch[item->slot] = NULL;
		item->slot = -1;
	}
	if (item->fd >= 0) {
		p->places[item->fd] = (struct place){.item = NULL};
		item->fd = -1;
		p->items--;
	}
}

void mt_poller_remove(struct mt_poller *p, struct mt_poll_item *item)
{
	int fd = item->fd;

	forget(p, item);
	if (fd >= 0) {
		/* Fails only for a descriptor that is closed, and so out of the set, already. */
		(void)epoll_ctl(p->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	}
}

int mt_poller_park(struct mt_poller *p, struct mt_poll_item *item, unsigned events)
{
	int fd = item->fd;

	events |= item->deferred;
	if (item->slot >= 0) {
		events |= from_epoll(p->events[item->slot].events); /* fetched, not told yet */
	}
	forget(p, item);
	if (fd >= 0) {
		p->places[fd].parked = PARKED | events;
	}
	return fd;
}

void mt_poller_close_fd(struct mt_poller *p, int fd)
{
	if (fd >= 0 && (size_t)fd < p->place_count) {
		p->places[fd].parked = 0;
	}
	(void)close(fd); /* nothing waits to be written */
}

void mt_poller_close(struct mt_poller *p, struct mt_poll_item *item)
{
	int fd = item->fd;

	forget(p, item);
	if (fd >= 0) {
		close(fd);
	}
}

void mt_poller_defer(struct mt_poller *p, struct mt_poll_item *item, unsigned events)
{
	item->deferred |= events;
	if (item->next == NULL) {
		ring_insert(&p->deferred, item);
		/* Starting an active handle again does nothing. */
		(void)uv_idle_start(&p->idle, on_idle);
	}
}
