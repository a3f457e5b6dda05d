#include "daemon/worker.h"

#include "daemon/relay_io.h"
#include "daemon/resolver.h"
#include "daemon/tls_front.h"
#include "daemon/worker_impl.h"

#include <ares.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define RELAY_SOCKETS_MIN 64u

static void on_letters(uv_poll_t *poll, int status, int events)
{
	struct mt_worker *w = poll->data;

	(void)status; /* an eventfd has no errors */
	(void)events;
	mt_mailbox_run(w->mailbox, w);
}

static void on_turn_end(uv_prepare_t *prepare)
{
	struct mt_worker *w = prepare->data;

	mt_relay_io_flush(w->env.relay_io);
}

static void on_idle(void *user)
{
	struct mt_worker *w = user;

	if (w->env.draining && !w->drained && !w->stopping && w->events.on_drained != NULL) {
		w->drained = true;
		w->events.on_drained(w->events.user, w->index);
	}
}

/* ---- making ---- */

static int open_handles(struct mt_worker *w)
{
	int rv = uv_poll_init(&w->loop, &w->letters, w->mailbox->fd);

	if (rv < 0) {
		return rv;
	}
	w->letters.data = w;
	/* These two never fail. */
	(void)uv_prepare_init(&w->loop, &w->turn_end);
	w->turn_end.data = w;
	(void)uv_prepare_start(&w->turn_end, on_turn_end);
	rv = uv_poll_start(&w->letters, UV_READABLE, on_letters);
	if (rv < 0) {
		uv_close((uv_handle_t *)&w->letters, NULL);
		uv_close((uv_handle_t *)&w->turn_end, NULL);
		w->letters.data = NULL;
	}
	return rv;
}

/* Half of the process's descriptors are for UDP, the other half for tunnels and connections. */
static unsigned relay_sockets_max(unsigned workers)
{
	struct rlimit limit;
	uint64_t max = RELAY_SOCKETS_MIN;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur / 2 / workers > max) {
		max = limit.rlim_cur / 2 / workers;
	}
	return max < UINT_MAX ? (unsigned)max : UINT_MAX;
}

static int open_env(struct mt_worker *w)
{
	struct mt_env *env = &w->env;
	struct mt_allocator allocator;
	int rv;

	env->mem = mt_mem_new();
	env->relay_io = mt_relay_io_new(env->counters);
	env->reassembled = malloc(MT_UDP_PAYLOAD_MAX);
	env->pipes = mt_pipes_new(&env->counters->tls_pipes_missing);
	if (env->pipes == NULL || env->mem == NULL || env->relay_io == NULL ||
		env->reassembled == NULL) {
		return -ENOMEM;
	}
	allocator = mt_mem_allocator(env->mem);
	mt_reassembly_pool_init(&env->reassembly, &allocator);
	env->relay_sockets_max = relay_sockets_max(w->count);
	if (getrandom(&env->seed, sizeof(env->seed), 0) != (ssize_t)sizeof(env->seed)) {
		return -EIO;
	}
	rv = mt_poller_new(&env->poller, &w->loop);
	if (rv < 0) {
		return rv;
	}
	rv = mt_pacer_new(&env->pacer, &w->loop);
	if (rv < 0) {
		return rv;
	}
	rv = mt_resolver_new(&env->resolver, &w->loop, env, NULL);
	if (rv < 0) {
		return rv;
	}
	env->on_idle = on_idle;
	env->user = w;
	LIST_INIT(&env->tunnels);
	LIST_INIT(&env->walks);
	return 0;
}

/* Works on duplicates, so that a failure leaves the caller its sockets. */
static int add_sockets(struct mt_worker *w, const struct mt_worker_config *config)
{
	struct mt_udp_socket copy;
	int rv;

	for (size_t i = 0; i < config->socket_count; i++) {
		copy = config->sockets[i];
		copy.fd = fcntl(copy.fd, F_DUPFD_CLOEXEC, 0);
		if (copy.fd < 0) {
			return -errno;
		}
		rv = mt_worker_add_socket(w, config->listeners[i], &copy);
		if (rv < 0) {
			mt_udp_close(&copy);
			return rv;
		}
	}
	return 0;
}

static int open_driver(struct mt_worker *w, const struct mt_worker_config *config)
{
	struct mt_endpoint_config endpoint = {
		.mem = w->env.mem,
		.counters = &w->env.counters->quic,
		.places = config->places,
		.worker = (uint8_t)config->index,
		.worker_count = (uint8_t)config->count,
		.tag = config->tag,
		.tls = config->snapshot->tls,
	};

	memcpy(endpoint.secret, config->secret, sizeof(endpoint.secret));
	mt_worker_set_events(w, &endpoint.events);
	mt_worker_limits(&endpoint.limits, config->snapshot, config->count);
	return mt_driver_new(&w->driver, &w->loop, &endpoint);
}

static void free_others(struct mt_worker *w)
{
	for (unsigned i = 0; w->others != NULL && i < w->count; i++) {
		mt_mailbox_unref(w->others[i]);
	}
	free(w->others);
	w->others = NULL;
}

/* Ends what is open, from whatever point it got to. No thread runs the loop any more. */
static void free_worker(struct mt_worker *w)
{
	struct mt_session *s;

	if (w->driver != NULL) {
		mt_tunnels_cancel_all(&w->env, MT_APP_SHUTDOWN);
		while ((s = LIST_FIRST(&w->sessions)) != NULL) {
			mt_session_free(s);
		}
		mt_tls_front_free(w->tls);
		mt_driver_free(w->driver);
	}
	mt_resolver_free(w->env.resolver);
	if (w->env.poller != NULL) {
		mt_poller_free(w->env.poller);
	}
	mt_pacer_free(w->env.pacer);
	if (w->env.deadlines.timer.data != NULL) {
		mt_deadlines_close(&w->env.deadlines);
	}
	if (w->letters.data != NULL) {
		uv_close((uv_handle_t *)&w->letters, NULL);
		uv_close((uv_handle_t *)&w->turn_end, NULL);
	}
	/* Until the last handle has closed. */
	(void)uv_run(&w->loop, UV_RUN_DEFAULT);
	(void)uv_loop_close(&w->loop); /* nothing is open: cannot be busy */
	mt_relay_io_free(w->env.relay_io);
	mt_pipes_free(w->env.pipes);
	free(w->env.reassembled);
	mt_mem_free(w->env.mem);
	mt_snapshot_unref(w->env.snapshot);
	free_others(w);
	mt_mailbox_unref(w->mailbox);
	ares_library_cleanup();
	free(w);
}

int mt_worker_new(struct mt_worker **out, const struct mt_worker_config *config)
{
	struct mt_worker *w;
	int rv;

	if (config->count == 0 || config->count > UINT8_MAX || config->index >= config->count) {
		return MT_E_RANGE;
	}
	w = calloc(1, sizeof(*w));
	if (w == NULL) {
		return -ENOMEM;
	}
	rv = uv_loop_init(&w->loop);
	if (rv < 0) {
		free(w);
		return rv;
	}
	/* Counts its callers; fails only without memory, and then the channel cannot be opened. */
	(void)ares_library_init(ARES_LIB_INIT_ALL);
	w->index = config->index;
	w->count = config->count;
	w->events = config->events;
	w->qlogs = config->qlogs;
	w->env.counters = config->counters;
	w->env.snapshot = mt_snapshot_ref(config->snapshot);
	LIST_INIT(&w->sessions);
	rv = mt_deadlines_init(&w->env.deadlines, &w->loop);
	if (rv == 0) {
		rv = mt_mailbox_new(&w->mailbox);
	}
	if (rv == 0) {
		rv = open_env(w);
	}
	if (rv == 0) {
		rv = open_handles(w);
	}
	if (rv == 0) {
		rv = open_driver(w, config);
	}
	if (rv == 0) {
		rv = mt_worker_open_tls(w);
	}
	if (rv == 0) {
		rv = add_sockets(w, config);
	}
	if (rv < 0) {
		free_worker(w);
		return rv;
	}
	for (size_t i = 0; i < config->socket_count; i++) {
		(void)close(config->sockets[i].fd); /* we hold a duplicate */
	}
	*out = w;
	return 0;
}

/* ---- running ---- */

static void run(void *arg)
{
	struct mt_worker *w = arg;
	char name[16]; /* the most that a thread's may have */

	(void)snprintf(name, sizeof(name), "worker %u", w->index);
	(void)pthread_setname_np(pthread_self(), name); /* for people and tests only */
	/* Ends by uv_stop only; handles are still open then. */
	(void)uv_run(&w->loop, UV_RUN_DEFAULT);
}

int mt_worker_start(struct mt_worker *w, struct mt_worker **peers)
{
	sigset_t all;
	sigset_t before;
	int rv;

	w->others = calloc(w->count, sizeof(struct mt_mailbox *));
	if (w->others == NULL) {
		return -ENOMEM;
	}
	for (unsigned i = 0; i < w->count; i++) {
		w->others[i] = mt_mailbox_ref(peers[i]->mailbox);
	}
	/* Signals are the control thread's: a new thread inherits the mask. */
	(void)sigfillset(&all);
	rv = -pthread_sigmask(SIG_SETMASK, &all, &before);
	if (rv == 0) {
		rv = uv_thread_create(&w->thread, run, w);
		(void)pthread_sigmask(SIG_SETMASK, &before, NULL); /* as it was a moment ago */
	}
	if (rv < 0) {
		free_others(w);
		return rv;
	}
	w->has_thread = true;
	return 0;
}

void mt_worker_post(struct mt_worker *w, struct mt_message_node *node)
{
	mt_mailbox_post(w->mailbox, node);
}

uint64_t mt_worker_busy_ns(const struct mt_worker *w)
{
	struct timespec used = {0};
	clockid_t clock;

	if (!w->has_thread || pthread_getcpuclockid(w->thread, &clock) != 0 ||
		clock_gettime(clock, &used) != 0) {
		return 0;
	}
	return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

/* ---- stopping ---- */

static void run_stop(struct mt_message_node *node, void *receiver)
{
	(void)node;
	mt_worker_begin_stop(receiver);
}

void mt_worker_stop(struct mt_worker *w)
{
	if (w->has_thread) {
		w->stop.run = run_stop;
		mt_worker_post(w, &w->stop);
		(void)uv_thread_join(&w->thread); /* fails only for a thread that is not there */
	}
	free_worker(w);
}

unsigned mt_worker_index(const struct mt_worker *w)
{
	return w->index;
}
