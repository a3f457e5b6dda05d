#include "client/cmd.h"
#include "client/profile_file.h"
#include "client/say.h"
#include "client/uplink.h"

#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PINGS            5
#define PING_INTERVAL_MS 300  /* path MTU discovery goes on meanwhile */
#define PING_TIMEOUT_MS  5000 /* for one answer */
#define SMALL_PAYLOAD    1252 /* IPv6's smallest MTU, without the headers */

static const char help[] =
	"Usage: mytunnel doctor PROFILE\n"
	"\n"
	"Checks the way to the server step by step: the profile, the name, the route, the\n"
	"handshake, the identity, datagrams, the round trip and the path MTU. A verdict a line, "
	"and\n"
	"for each failure what to do next. PROFILE is a file, an imported name, or '-' for "
	"standard\n"
	"input.\n"
	"\n"
	"Examples:\n"
	"  mytunnel doctor laptop\n";

struct doctor {
	uv_loop_t loop;
	struct mt_mem *mem;
	struct mt_uplink *uplink;
	uv_timer_t timer;
	bool has_timer;
	const struct mt_profile *profile;
	bool connected;
	unsigned sent;
	unsigned received;
	uint64_t min_ns;
	uint64_t max_ns;
	uint64_t sum_ns;
	uint64_t start_ms;
	unsigned failures;
	struct mt_uplink_path path;
	bool has_path;
	char failure[512];
};

static void __attribute__((format(printf, 5, 6))) say(struct doctor *d, const char *verdict,
	const char *check, const char *next, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof(text), format, args); /* for people: cut when too long */
	va_end(args);
	printf("%-4s  %-10s  %s\n", verdict, check, text);
	if (next[0] != '\0') {
		printf("      %-10s  next: %s\n", "", next);
	}
	(void)fflush(stdout); /* nobody reads it: the exit status still counts */
	d->failures += strcmp(verdict, "fail") == 0;
}

/* Whether the routing table knows a way; nothing is sent. */
static bool has_route(const struct addrinfo *a)
{
	int fd = socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool found = fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0;

	if (fd >= 0) {
		(void)close(fd); /* nothing was written */
	}
	return found;
}

/* False: without an address or a route nothing else can be tried. */
static bool check_name(struct doctor *d)
{
	struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_family = AF_UNSPEC};
	struct addrinfo *list = NULL;
	char port[8];
	unsigned found = 0;
	unsigned routed = 0;
	int rv;

	(void)snprintf(port, sizeof(port), "%u", d->profile->port); /* at most five digits */
	rv = getaddrinfo(d->profile->host, port, &hints, &list);
	if (rv != 0) {
		say(d, "fail", "name",
			"check this machine's network and resolver (getent ahosts NAME), or ask "
			"for "
			"a profile with the right name",
			"%s does not resolve: %s", d->profile->host, gai_strerror(rv));
		return false;
	}
	for (struct addrinfo *a = list; a != NULL; a = a->ai_next) {
		char text[64] = "?";

		/* Numeric: fails only for want of room. */
		(void)getnameinfo(
			a->ai_addr, a->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST);
		found++;
		if (has_route(a)) {
			routed++;
			say(d, "ok", "name", "", "%s is %s", d->profile->host, text);
		} else {
			say(d, "info", "name", "", "%s is %s, to which this machine has no route",
				d->profile->host, text);
		}
	}
	freeaddrinfo(list);
	if (routed == 0) {
		say(d, "fail", "route", "ip route; connect this machine to a network",
			"no route to any of the server's %u addresses", found);
	}
	return routed > 0;
}

static void stop_with(struct doctor *d, const char *why)
{
	if (d->failure[0] == '\0') {
		(void)snprintf(d->failure, sizeof(d->failure), "%s", why); /* cut when longer */
	}
	uv_stop(&d->loop);
}

static void on_timer(uv_timer_t *timer)
{
	struct doctor *d = timer->data;

	if (d->received < d->sent) {
		stop_with(d, "the server does not answer pings");
		return;
	}
	if (mt_uplink_ping(d->uplink) < 0) {
		stop_with(d, "the server offers no control channel");
		return;
	}
	d->sent++;
	(void)uv_timer_start(
		&d->timer, on_timer, PING_TIMEOUT_MS, 0); /* a callback is given: always 0 */
}

static void on_pong(uint64_t rtt_ns, void *user)
{
	struct doctor *d = user;

	if (d->received >= d->sent) {
		return; /* asked for by the connection itself, as a sign of life */
	}
	d->received++;
	d->sum_ns += rtt_ns;
	d->min_ns = rtt_ns < d->min_ns ? rtt_ns : d->min_ns;
	d->max_ns = rtt_ns > d->max_ns ? rtt_ns : d->max_ns;
	if (d->received == PINGS) {
		d->has_path = mt_uplink_get_path(d->uplink, &d->path) == 0;
		uv_stop(&d->loop);
		return;
	}
	(void)uv_timer_start(
		&d->timer, on_timer, PING_INTERVAL_MS, 0); /* a callback is given: always 0 */
}

static void on_state(enum mt_uplink_state state, const char *reason, void *user)
{
	struct doctor *d = user;

	if (state == MT_UPLINK_CONNECTED && !d->connected) {
		d->connected = true;
		say(d, "ok", "handshake", "", "QUIC over UDP port %u in %llu ms", d->profile->port,
			(unsigned long long)(uv_now(&d->loop) - d->start_ms));
		say(d, "ok", "server", "",
			d->profile->pin_count > 0 ? "its certificate matches the profile's pin"
						  : "its certificate is trusted by this system");
		(void)uv_timer_start(&d->timer, on_timer, 0, 0); /* as above */
	} else if (state == MT_UPLINK_FAILED) {
		stop_with(d, reason);
	}
}

/* What failed decides what to try next. */
static void explain_failure(struct doctor *d)
{
	if (d->connected) {
		say(d, "fail", "connection", "run this again; if it persists: mytunnel ping",
			"lost again: %s", d->failure);
	} else if (strstr(d->failure, "does not answer") != NULL) {
		say(d, "fail", "handshake",
			"on the server: sudo mytunnelctl doctor; then see that firewalls on the "
			"way "
			"let UDP through, or try another network",
			"nothing comes back from UDP port %u of %s", d->profile->port,
			d->profile->host);
	} else if (strstr(d->failure, "certificate") != NULL) {
		say(d, "fail", "server", "ask the server's administrator for a new profile", "%s",
			d->failure);
	} else if (strstr(d->failure, "limit") != NULL ||
		   strstr(d->failure, "no new connections") != NULL) {
		say(d, "fail", "handshake", "on the server: mytunnelctl status", "%s", d->failure);
	} else {
		say(d, "fail", "identity", "on the server: mytunnelctl client list", "%s",
			d->failure);
	}
}

static void report_path(struct doctor *d)
{
	if (d->received > 0) {
		say(d, "ok", "identity", "", "the server accepts this client");
		say(d, "ok", "round trip", "", "min/avg/max %.1f/%.1f/%.1f ms",
			(double)d->min_ns / 1e6, (double)d->sum_ns / d->received / 1e6,
			(double)d->max_ns / 1e6);
	}
	if (!d->has_path) {
		return;
	}
	if (d->path.datagram_max == 0) {
		say(d, "fail", "datagrams", "update the server", "the server takes none: no UDP");
	} else {
		say(d, "ok", "datagrams", "", "UDP payloads of up to about %zu bytes fit",
			d->path.datagram_max > 20 ? d->path.datagram_max - 20 : 0);
	}
	if (d->path.udp_payload < SMALL_PAYLOAD) {
		say(d, "warn", "path MTU", "see whether another tunnel or PPPoE is on the way",
			"packets of %zu bytes pass, larger ones do not: more work for each byte",
			d->path.udp_payload);
	} else {
		say(d, "ok", "path MTU", "", "packets of %zu bytes pass", d->path.udp_payload);
	}
}

static int start(struct doctor *d)
{
	struct mt_uplink_config config = {
		.loop = &d->loop,
		.profile = d->profile,
		.persistent = false,
		.on_state = on_state,
		.on_pong = on_pong,
		.user = d,
	};

	d->mem = mt_mem_new();
	if (d->mem == NULL) {
		return -ENOMEM;
	}
	config.mem = d->mem;
	(void)uv_timer_init(&d->loop, &d->timer); /* timers cannot fail to be set up */
	d->timer.data = d;
	d->has_timer = true;
	d->start_ms = uv_now(&d->loop);
	return mt_uplink_new(&d->uplink, &config);
}

static void finish(struct doctor *d)
{
	int busy;

	mt_uplink_free(d->uplink);
	if (d->has_timer) {
		uv_close((uv_handle_t *)&d->timer, NULL);
	}
	(void)uv_run(&d->loop, UV_RUN_DEFAULT); /* until all handles are closed */
	busy = uv_loop_close(&d->loop);
	(void)busy; /* the process ends */
	mt_mem_free(d->mem);
}

static int examine(const struct mt_profile *profile)
{
	struct doctor d = {.profile = profile, .min_ns = UINT64_MAX};
	int err;

	if (!profile->has_key) {
		say(&d, "fail", "profile", "mytunnel keygen NAME, and have its public key enrolled",
			"it holds no key, and none lies beside it");
		return MT_EXIT_FAILED;
	}
	say(&d, "ok", "profile", "", "server %s, port %u, %s", profile->host, profile->port,
		profile->pin_count > 0 ? "pinned" : "certificate of a public authority");
	if (!check_name(&d)) {
		return MT_EXIT_FAILED;
	}
	err = uv_loop_init(&d.loop);
	if (err < 0) {
		mt_say("cannot start (%s)", mt_strerror(err));
		return MT_EXIT_FAILED;
	}
	err = start(&d);
	if (err < 0) {
		stop_with(&d, mt_strerror(err));
	} else {
		(void)uv_run(&d.loop, UV_RUN_DEFAULT); /* stopped by uv_stop */
	}
	report_path(&d);
	if (d.failure[0] != '\0') {
		explain_failure(&d);
	}
	finish(&d);
	return d.failures == 0 && fflush(stdout) == 0 ? MT_EXIT_OK : MT_EXIT_FAILED;
}

static int run(int argc, char **argv)
{
	struct mt_profile profile;
	char warning[MT_WHY_MAX];
	char why[MT_WHY_MAX];
	int status;

	if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		return mt_verb_print_help(&mt_verb_doctor);
	}
	if (argc != 2 || (argv[1][0] == '-' && argv[1][1] != '\0')) {
		return mt_verb_usage_error(&mt_verb_doctor, "exactly one PROFILE is needed");
	}
	if (mt_profile_load(&profile, argv[1], stdin, warning, why) < 0) {
		printf("fail  %-10s  %s\n", "profile", why);
		return MT_EXIT_FAILED;
	}
	if (warning[0] != '\0') {
		printf("warn  %-10s  %s\n", "profile", warning);
	}
	status = examine(&profile);
	mt_profile_deinit(&profile);
	return status;
}

const struct mt_verb mt_verb_doctor = {
	.name = "doctor",
	.run = run,
	.summary = "check the way to the server, step by step",
	.help = help,
};
