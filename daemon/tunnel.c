#include "daemon/tunnel.h"

#include "daemon/access.h"
#include "daemon/access_log.h"
#include "daemon/front.h"
#include "daemon/opening.h"
#include "proto/io/pump.h"
#include "proto/io/splice.h"
#include "proto/io/tls_stream.h"
#include "proto/wire/addr.h"
#include "proto/wire/request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SWEEP_MS 250 /* how often the payload counters catch up with running pumps */
#define CUT_MS   20
/* For a tunnel without a connection to deliver the rest: nothing else bounds their number. */
#define ABANDONED_MS 30000

enum stage {
	STAGE_HEADER,
	STAGE_OPENING,
	STAGE_PUMP,
	STAGE_CUT, /* connected and reset at once: the reset follows the status */
};

struct mt_tunnel {
	LIST_ENTRY(mt_tunnel) of_env;
	LIST_ENTRY(mt_tunnel) of_set;
	struct mt_env *env;
	struct mt_tunnels *set;     /* NULL once the connection has gone */
	struct mt_account *account; /* referenced; NULL: none */
	struct mt_rate *rate;       /* referenced */
	struct mt_stream *stream;   /* the pump's in STAGE_PUMP */
	enum stage stage;
	bool is_tls;
	bool open; /* counted in tunnels_open */
	bool kept; /* goes on although the rules refuse its target by now */
	struct mt_opening opening;
	struct mt_deadline deadline;
	struct mt_pump *pump; /* one of these two in STAGE_PUMP */
	struct mt_splice *splice;
	struct mt_addr target;
	char client[MT_NAME_MAX + 1]; /* once the connection has gone */
	uint64_t counted_in;          /* payload that the worker's counters know of */
	uint64_t counted_out;
};

static void log_access(const struct mt_tunnel *t, const char *reason)
{
	const struct mt_access_end end = {
		.client = t->set != NULL ? t->set->client : t->client,
		.target = &t->target,
		.bytes_received = t->counted_in,
		.bytes_sent = t->counted_out,
		.reason = reason,
	};

	mt_access_log_closed(&t->opening, &end);
}

static void set_active(struct mt_env *env, uint64_t change)
{
	mt_count(&env->counters->tunnels_active, change); /* wraps: UINT64_MAX is one less */
}

static void count_payload(struct mt_tunnel *t, uint64_t in, uint64_t out)
{
	struct mt_worker_counters *c = t->env->counters;

	mt_count(t->is_tls ? &c->tls_bytes_received : &c->bytes_received, in - t->counted_in);
	mt_count(t->is_tls ? &c->tls_bytes_sent : &c->bytes_sent, out - t->counted_out);
	if (t->splice != NULL) {
		mt_count(&c->tls_spliced_bytes, in - t->counted_in + out - t->counted_out);
	}
	if (t->account != NULL) {
		mt_account_count(t->account, in - t->counted_in, out - t->counted_out);
	}
	t->counted_in = in;
	t->counted_out = out;
}

static void pumped(const struct mt_tunnel *t, uint64_t *in, uint64_t *out)
{
	*in = t->splice != NULL ? mt_splice_bytes_to_socket(t->splice)
				: mt_pump_bytes_to_socket(t->pump);
	*out = t->splice != NULL ? mt_splice_bytes_to_stream(t->splice)
				 : mt_pump_bytes_to_stream(t->pump);
}

static void count_pump(struct mt_tunnel *t)
{
	uint64_t in, out;

	pumped(t, &in, &out);
	count_payload(t, in, out);
}

static void on_sweep(struct mt_deadline *deadline)
{
	struct mt_env *env =
		(struct mt_env *)((char *)deadline - offsetof(struct mt_env, tunnel_sweep));
	struct mt_tunnel *t;

	for (t = LIST_FIRST(&env->tunnels); t != NULL; t = LIST_NEXT(t, of_env)) {
		if (t->stage == STAGE_PUMP) {
			count_pump(t);
		}
	}
	if (!LIST_EMPTY(&env->tunnels)) {
		mt_deadline_set(&env->deadlines, &env->tunnel_sweep, SWEEP_MS);
	}
}

/* Everything but the stream and the pump, which are gone already. */
static void free_tunnel(struct mt_tunnel *t)
{
	struct mt_env *env = t->env;
	bool was_open = t->open;

	mt_deadline_cancel(&t->deadline);
	mt_opening_deinit(&t->opening);
	if (t->stage == STAGE_PUMP) {
		set_active(env, UINT64_MAX);
	}
	LIST_REMOVE(t, of_env);
	if (t->set != NULL) {
		LIST_REMOVE(t, of_set);
		t->set->bytes_received += t->counted_in;
		t->set->bytes_sent += t->counted_out;
	}
	mt_account_unref(t->account);
	mt_rate_unref(t->rate);
	mt_mem_release(env->mem, t);
	if (was_open && --env->tunnels_open == 0 && env->on_idle != NULL) {
		env->on_idle(env->user);
	}
}

static void give_up(struct mt_tunnel *t, uint64_t app_code)
{
	mt_stream_release(t->stream, app_code);
	free_tunnel(t);
}

/* Says why not, ends our direction and asks the client to end its own. */
static void refuse(struct mt_tunnel *t, enum mt_status status)
{
	const uint8_t byte = (uint8_t)status;

	/* When the client does not listen any more, or there is no memory, the release resets. */
	if (mt_stream_send(t->stream, &byte, 1) == 0) {
		mt_stream_send_fin(t->stream);
	}
	give_up(t, MT_APP_NONE);
}

static const char *end_reason(const struct mt_pump_result *result)
{
	if (result->err == 0) {
		return "done";
	}
	if (result->err != MT_E_RESET) {
		return mt_app_code_text(MT_APP_TARGET_RESET);
	}
	return result->app_code != MT_APP_NONE ? "client reset" : "connection lost";
}

static void on_first_byte(void *user)
{
	struct mt_tunnel *t = user;

	mt_tunnel_trace_first_byte(&t->opening.trace);
}

static void finish(struct mt_tunnel *t, const struct mt_pump_result *result)
{
	count_payload(t, result->bytes_to_socket, result->bytes_to_stream);
	if (result->err != 0) {
		mt_count(&t->env->counters->tunnels_reset, 1);
	}
	log_access(t, end_reason(result));
	free_tunnel(t);
}

static void on_pump_end(struct mt_pump *pump, const struct mt_pump_result *result, void *user)
{
	(void)pump;
	finish(user, result);
}

static void on_splice_end(struct mt_splice *splice, const struct mt_pump_result *result, void *user)
{
	(void)splice;
	finish(user, result);
}

/* By splice where the stream allows it. */
static int join(struct mt_tunnel *t, const struct mt_pump_config *config)
{
	const struct mt_splice_config splice = {
		.pump = *config, .pipes = t->env->pipes, .on_end = on_splice_end};

	return mt_splice_suits(t->stream) ? mt_splice_start(&t->splice, &splice)
					  : mt_pump_start(&t->pump, config);
}

static void start_pump(struct mt_tunnel *t, int fd)
{
	const uint8_t ok = MT_STATUS_OK;
	struct mt_account *account = t->account;
	const struct mt_pump_config config = {
		.poller = t->env->poller,
		.pacer = t->env->pacer,
		.to_stream = {{account != NULL ? &account->to_client : NULL, &t->rate->to_client}},
		.to_socket = {{account != NULL ? &account->from_client : NULL,
			&t->rate->from_client}},
		.stream = t->stream,
		.fd = fd,
		.on_end = on_pump_end,
		.on_first_byte = on_first_byte,
		.user = t,
		.mem = t->env->mem,
	};
	int rv = mt_stream_send(t->stream, &ok, 1);

	if (rv == 0) {
		rv = join(t, &config);
	}
	if (rv < 0) {
		mt_poller_close_fd(t->env->poller, fd); /* nothing was exchanged with the target */
		if (rv != MT_E_CLOSED) {
			mt_count(&t->env->counters->errors, 1);
		}
		log_access(t, rv == MT_E_CLOSED ? "client reset" : "resources");
		give_up(t, MT_APP_LIMIT);
		return;
	}
	t->stage = STAGE_PUMP;
	mt_count(&t->env->counters->tunnels_opened, 1);
	set_active(t->env, 1);
}

/* A reset in the same turn would overtake the status. */
static void cut_after_status(struct mt_tunnel *t)
{
	const uint8_t ok = MT_STATUS_OK;

	mt_count(&t->env->counters->tunnels_opened, 1);
	mt_count(&t->env->counters->tunnels_reset, 1);
	t->stage = STAGE_CUT;
	if (mt_stream_send(t->stream, &ok, 1) < 0) {
		give_up(t, MT_APP_TARGET_RESET);
		return;
	}
	mt_deadline_set(&t->env->deadlines, &t->deadline, CUT_MS);
}

static void on_opened(struct mt_opening *o, int err, int fd, const struct mt_addr *addr)
{
	struct mt_tunnel *t = (struct mt_tunnel *)((char *)o - offsetof(struct mt_tunnel, opening));

	if (addr != NULL) {
		t->target = *addr;
	}
	if (err == -ECONNRESET) {
		cut_after_status(t);
	} else if (err < 0) {
		refuse(t, mt_status_from_error(err));
	} else {
		start_pump(t, fd);
	}
}

static void start_request(struct mt_tunnel *t, const struct mt_request *request)
{
	const struct mt_tls_socket *tls = mt_tls_stream_socket(t->stream);
	int rv;

	t->stage = STAGE_OPENING;
	t->open = true;
	t->env->tunnels_open++;
	t->opening.env = t->env;
	t->opening.client = t->set->client;
	t->opening.on_done = on_opened;
	t->opening.trace =
		tls != NULL ? (struct mt_tunnel_trace){.connection = tls->trace, .transport = "tls"}
			    : (struct mt_tunnel_trace){.connection = t->set->trace,
				      .stream = mt_stream_id(t->stream),
				      .transport = "quic"};
	rv = mt_opening_start(&t->opening, request);
	if (rv < 0) {
		refuse(t, mt_status_from_error(rv));
	}
}

/* The stream is no tunnel. */
static void hand_over(struct mt_tunnel *t, void (*to)(void *user, struct mt_stream *stream))
{
	void *user = t->set->user;
	struct mt_stream *stream = t->stream;

	free_tunnel(t);
	to(user, stream);
}

static void read_header(struct mt_tunnel *t)
{
	struct mt_worker_counters *counters = t->env->counters;
	struct mt_request request;
	uint8_t buf[MT_REQUEST_MAX];
	size_t len = mt_stream_front(t->stream, buf, sizeof(buf));
	size_t used = 0;
	int rv = mt_request_decode(&request, &used, buf, len);

	if (rv == MT_E_AGAIN) {
		if (mt_stream_fin_received(t->stream)) {
			mt_count(&counters->requests_malformed, 1);
			refuse(t, MT_STATUS_GENERAL_FAILURE);
		}
		return;
	}
	mt_deadline_cancel(&t->deadline);
	if (rv < 0) {
		mt_count(rv == MT_E_UNSUPPORTED ? &counters->requests_unsupported
						: &counters->requests_malformed,
			1);
		refuse(t, mt_status_from_error(rv));
		return;
	}
	mt_stream_consume(t->stream, used);
	if (request.type == MT_REQUEST_CONTROL) {
		hand_over(t, t->set->on_channel);
	} else if (t->env->draining && request.type == MT_REQUEST_UDP_STREAM) {
		mt_count(&counters->tunnels_failed, 1);
		mt_count(&counters->connect_failures[MT_CONNECT_DRAINING], 1);
		refuse(t, MT_STATUS_GENERAL_FAILURE);
	} else if (request.type == MT_REQUEST_UDP_STREAM) {
		hand_over(t, t->set->on_udp);
	} else {
		start_request(t, &request);
	}
}

static void cancel(struct mt_tunnel *t, uint64_t app_code)
{
	if (t->stage != STAGE_PUMP) {
		give_up(t, app_code);
		return;
	}
	count_pump(t);
	mt_count(&t->env->counters->tunnels_reset, 1);
	if (t->splice != NULL) {
		mt_splice_cancel(t->splice, app_code);
	} else {
		mt_pump_cancel(t->pump, app_code);
	}
	log_access(t, mt_app_code_text((enum mt_app_code)app_code));
	free_tunnel(t);
}

static void on_deadline(struct mt_deadline *deadline)
{
	struct mt_tunnel *t =
		(struct mt_tunnel *)((char *)deadline - offsetof(struct mt_tunnel, deadline));

	if (t->stage == STAGE_HEADER) {
		mt_count(&t->env->counters->requests_timeout, 1);
		refuse(t, MT_STATUS_TIMED_OUT);
	} else if (t->stage == STAGE_CUT) {
		give_up(t, MT_APP_TARGET_RESET);
	} else {
		cancel(t, MT_APP_NONE);
	}
}

static void on_readable(struct mt_stream *s, void *user)
{
	struct mt_tunnel *t = user;

	(void)s;
	/* Later than the header the bytes wait in the stream's queue for the pump. */
	if (t->stage == STAGE_HEADER) {
		read_header(t);
	}
}

static void on_cut(struct mt_stream *s, uint64_t app_code, void *user)
{
	(void)s;
	(void)app_code;
	give_up(user, MT_APP_CANCELLED);
}

static void on_stream_end(struct mt_stream *s, int err, void *user)
{
	(void)s;
	(void)err;
	give_up(user, MT_APP_NONE);
}

/* Until the pump takes over. */
static const struct mt_stream_handler handler = {
	.on_readable = on_readable,
	.on_reset = on_cut,
	.on_stop = on_cut,
	.on_end = on_stream_end,
};

void mt_tunnels_init(struct mt_tunnels *set, struct mt_env *env, const char *client,
	void (*on_channel)(void *user, struct mt_stream *stream), void *user)
{
	*set = (struct mt_tunnels){
		.env = env, .client = client, .on_channel = on_channel, .user = user};
	LIST_INIT(&set->list);
}

void mt_tunnels_accept(struct mt_tunnels *set, struct mt_stream *stream)
{
	struct mt_env *env = set->env;
	struct mt_tunnel *t = mt_mem_calloc(env->mem, sizeof(*t));

	if (t == NULL) {
		mt_count(&env->counters->errors, 1);
		mt_stream_release(stream, MT_APP_LIMIT);
		return;
	}
	t->env = env;
	t->set = set;
	t->account = set->account != NULL ? mt_account_ref(set->account) : NULL;
	t->rate = mt_rate_ref(set->rate);
	t->stream = stream;
	t->is_tls = mt_tls_stream_socket(stream) != NULL;
	t->stage = STAGE_HEADER;
	t->deadline.on_due = on_deadline;
	if (LIST_EMPTY(&env->tunnels)) {
		env->tunnel_sweep.on_due = on_sweep;
		mt_deadline_set(&env->deadlines, &env->tunnel_sweep, SWEEP_MS);
	}
	LIST_INSERT_HEAD(&env->tunnels, t, of_env);
	LIST_INSERT_HEAD(&set->list, t, of_set);
	mt_deadline_set(&env->deadlines, &t->deadline, MT_REQUEST_TIMEOUT_MS);
	mt_stream_set_handler(stream, &handler, t);
	read_header(t);
}

void mt_tunnels_bytes(const struct mt_tunnels *set, uint64_t *received, uint64_t *sent)
{
	const struct mt_tunnel *t;

	*received = set->bytes_received;
	*sent = set->bytes_sent;
	for (t = LIST_FIRST(&set->list); t != NULL; t = LIST_NEXT(t, of_set)) {
		if (t->stage == STAGE_PUMP) {
			uint64_t in, out;

			pumped(t, &in, &out);
			*received += in;
			*sent += out;
		}
	}
}

void mt_tunnels_cancel(struct mt_tunnels *set, uint64_t app_code)
{
	while (!LIST_EMPTY(&set->list)) {
		cancel(LIST_FIRST(&set->list), app_code);
	}
}

/* Whether it must be cut. */
static bool recheck(struct mt_tunnel *t, enum mt_recheck how)
{
	const struct mt_access_request request = mt_opening_request(&t->opening);

	if (mt_access_check_target(t->env->snapshot, &request, &t->target) == 0) {
		t->kept = false;
		return false;
	}
	t->kept = how == MT_RECHECK_KEEP || (how == MT_RECHECK_OTHERS && t->kept);
	return !t->kept;
}

unsigned mt_tunnels_recheck(struct mt_tunnels *set, enum mt_recheck how)
{
	unsigned count = 0;
	struct mt_tunnel *next;

	for (struct mt_tunnel *t = LIST_FIRST(&set->list); t != NULL; t = next) {
		next = LIST_NEXT(t, of_set);
		if (t->stage == STAGE_PUMP && recheck(t, how)) {
			cancel(t, MT_APP_CANCELLED);
			count++;
		}
	}
	return count;
}

void mt_tunnels_abandon(struct mt_tunnels *set)
{
	struct mt_tunnel *t;

	while ((t = LIST_FIRST(&set->list)) != NULL) {
		if (t->stage == STAGE_PUMP) {
			LIST_REMOVE(t, of_set);
			(void)snprintf(
				t->client, sizeof(t->client), "%s", set->client); /* same size */
			t->set = NULL;
			mt_deadline_set(&t->env->deadlines, &t->deadline, ABANDONED_MS);
		} else {
			give_up(t, MT_APP_NONE);
		}
	}
}

void mt_tunnels_cancel_all(struct mt_env *env, uint64_t app_code)
{
	while (!LIST_EMPTY(&env->tunnels)) {
		cancel(LIST_FIRST(&env->tunnels), app_code);
	}
}
