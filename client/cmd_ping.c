#include "client/cmd.h"
#include "client/profile_file.h"
#include "client/say.h"
#include "client/uplink.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PINGS_DEFAULT 4
#define PINGS_MAX     1000000
#define INTERVAL_MS   1000
#define TIMEOUT_MS    5000 /* for one answer */

static const char help[] = "Usage: mytunnel ping [OPTION]... PROFILE\n"
			   "\n"
			   "Connects to the server and measures the round trip over the control "
			   "channel. PROFILE is a\n"
			   "file, an imported name, or '-' for standard input.\n"
			   "\n"
			   "  -c COUNT                    how many pings (default 4)\n"
			   "  --transport auto|quic|tls   QUIC over UDP, TLS over TCP, or (auto, "
			   "the default)\n"
			   "                              TLS only when UDP does not get through\n"
			   "\n"
			   "Examples:\n"
			   "  mytunnel ping laptop\n"
			   "  mytunnel ping -c 1 ./laptop.uri\n";

struct ping {
	uv_loop_t loop;
	struct mt_mem *mem;
	struct mt_poller *poller;
	struct mt_uplink *uplink;
	uv_timer_t timer;
	bool has_timer;
	unsigned count;
	unsigned sent;
	unsigned received;
	uint64_t min_ns;
	uint64_t max_ns;
	uint64_t sum_ns;
	uint64_t start_ms;
	char failure[512];
};

static double ms(uint64_t ns)
{
	return (double)ns / 1e6;
}

static void stop_with(struct ping *p, const char *why)
{
	if (p->failure[0] == '\0') {
		(void)snprintf(p->failure, sizeof(p->failure), "%s", why); /* cut when longer */
	}
	uv_stop(&p->loop);
}

static void on_timer(uv_timer_t *timer)
{
	struct ping *p = timer->data;

	if (p->received < p->sent) {
		stop_with(p, "the server does not answer");
		return;
	}
	if (mt_uplink_ping(p->uplink) < 0) {
		stop_with(p, "the server offers no control channel");
		return;
	}
	p->sent++;
	(void)uv_timer_start(
		&p->timer, on_timer, TIMEOUT_MS, 0); /* a callback is given: always 0 */
}

static void on_pong(uint64_t rtt_ns, void *user)
{
	struct ping *p = user;

	if (p->received >= p->sent) {
		return; /* asked for by the connection itself, as a sign of life */
	}
	p->received++;
	p->sum_ns += rtt_ns;
	p->min_ns = rtt_ns < p->min_ns ? rtt_ns : p->min_ns;
	p->max_ns = rtt_ns > p->max_ns ? rtt_ns : p->max_ns;
	printf("pong %u time=%.3f ms\n", p->received, ms(rtt_ns));
	(void)fflush(stdout); /* nobody reads it: the exit status still counts */
	if (p->received == p->count) {
		uv_stop(&p->loop);
		return;
	}
	(void)uv_timer_start(
		&p->timer, on_timer, INTERVAL_MS, 0); /* a callback is given: always 0 */
}

static void on_state(enum mt_uplink_state state, const char *reason, void *user)
{
	struct ping *p = user;

	if (state == MT_UPLINK_CONNECTED && p->sent == 0) {
		printf("connected transport=%s time=%.3f ms\n",
			mt_transport_text(mt_uplink_transport(p->uplink)),
			(double)(uv_now(&p->loop) - p->start_ms));
		(void)fflush(stdout);                            /* as above */
		(void)uv_timer_start(&p->timer, on_timer, 0, 0); /* a callback is given: always 0 */
	} else if (state == MT_UPLINK_FAILED) {
		stop_with(p, reason);
	}
}

static int start(struct ping *p, const struct mt_profile *profile, enum mt_choice choice)
{
	struct mt_uplink_config config = {
		.loop = &p->loop,
		.profile = profile,
		.choice = choice,
		.persistent = false,
		.on_state = on_state,
		.on_pong = on_pong,
		.user = p,
	};
	int err;

	p->mem = mt_mem_new();
	if (p->mem == NULL) {
		return -ENOMEM;
	}
	config.mem = p->mem;
	err = mt_poller_new(&p->poller, &p->loop);
	if (err < 0) {
		return err;
	}
	config.poller = p->poller;
	/* Timers cannot fail to be set up. */
	(void)uv_timer_init(&p->loop, &p->timer);
	p->timer.data = p;
	p->has_timer = true;
	p->start_ms = uv_now(&p->loop);
	return mt_uplink_new(&p->uplink, &config);
}

static void finish(struct ping *p)
{
	int busy;

	mt_uplink_free(p->uplink);
	if (p->poller != NULL) {
		mt_poller_free(p->poller);
	}
	if (p->has_timer) {
		uv_close((uv_handle_t *)&p->timer, NULL);
	}
	(void)uv_run(&p->loop, UV_RUN_DEFAULT); /* until all handles are closed */
	busy = uv_loop_close(&p->loop);
	(void)busy; /* the process ends */
	mt_mem_free(p->mem);
}

static int ping(const struct mt_profile *profile, enum mt_choice choice, unsigned count)
{
	struct ping p = {.count = count, .min_ns = UINT64_MAX};
	int err = uv_loop_init(&p.loop);

	if (err < 0) {
		mt_say("cannot start (%s)", mt_strerror(err));
		return MT_EXIT_FAILED;
	}
	err = start(&p, profile, choice);
	if (err < 0) {
		stop_with(&p, mt_strerror(err));
	} else {
		(void)uv_run(&p.loop, UV_RUN_DEFAULT); /* stopped by uv_stop */
	}
	finish(&p);
	if (p.received > 0) {
		printf("%u sent, %u received, min/avg/max = %.3f/%.3f/%.3f ms\n", p.sent,
			p.received, ms(p.min_ns), ms(p.sum_ns / p.received), ms(p.max_ns));
	}
	if (p.failure[0] != '\0') {
		mt_say("%s", p.failure);
	}
	return fflush(stdout) == 0 && p.received == p.count ? MT_EXIT_OK : MT_EXIT_FAILED;
}

static int parse_count(const char *text, unsigned *out)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno != 0 || text[0] < '0' || text[0] > '9' || *end != '\0' || value < 1 ||
		value > PINGS_MAX) {
		return MT_E_RANGE;
	}
	*out = (unsigned)value;
	return 0;
}

static int run(int argc, char **argv)
{
	static const struct option options[] = {{"count", required_argument, NULL, 'c'},
		{"transport", required_argument, NULL, 't'}, {"help", no_argument, NULL, 'h'}, {0}};
	struct mt_profile profile;
	char warning[MT_WHY_MAX];
	char why[MT_WHY_MAX];
	enum mt_choice choice = MT_CHOICE_AUTO;
	unsigned count = PINGS_DEFAULT;
	int option;
	int status;

	while ((option = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
		switch (option) {
		case 'c':
			if (parse_count(optarg, &count) < 0) {
				return mt_verb_usage_error(
					&mt_verb_ping, "COUNT is not a number from 1 to 1000000");
			}
			break;
		case 't':
			if (!mt_choice_parse(&choice, optarg)) {
				return mt_verb_usage_error(&mt_verb_ping, MT_CHOICE_USAGE);
			}
			break;
		case 'h': return mt_verb_print_help(&mt_verb_ping);
		default: return mt_verb_usage_error(&mt_verb_ping, "the option is not known");
		}
	}
	if (optind + 1 != argc) {
		return mt_verb_usage_error(&mt_verb_ping, "exactly one PROFILE is needed");
	}
	if (mt_profile_load(&profile, argv[optind], stdin, warning, why) < 0) {
		mt_say("%s", why);
		return MT_EXIT_FAILED;
	}
	if (warning[0] != '\0') {
		mt_say("warning: %s", warning);
	}
	status = ping(&profile, choice, count);
	mt_profile_deinit(&profile);
	return status;
}

const struct mt_verb mt_verb_ping = {
	.name = "ping",
	.run = run,
	.summary = "measure the way to the server",
	.help = help,
};
