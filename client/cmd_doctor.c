#include "client/cmd.h"
#include "client/profile_file.h"
#include "client/say.h"
#include "client/uplink.h"

#include <errno.h>
#include <getopt.h>
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
	"Usage: mytunnel doctor [--transport auto|quic|tls] PROFILE\n"
	"\n"
	"Checks the way to the server step by step: the profile, the name, the route, the\n"
	"handshakes over UDP (QUIC) and TCP (TLS), the identity, datagrams, the round trip and "
	"the\n"
	"path MTU. A verdict a line, and for each failure what to do next. PROFILE is a file, an\n"
	"imported name, or '-' for standard input.\n"
	"\n"
	"  --transport auto|quic|tls   which way to check; auto, the default, checks both\n"
	"\n"
	"Examples:\n"
	"  mytunnel doctor laptop\n";

/* One transport, tried on its own. */
struct probe {
	struct doctor *doctor;
	enum mt_transport transport;
	struct mt_uplink *uplink;
	uv_timer_t timer;
	bool running;
	bool connected;
	unsigned sent;
	unsigned received;
	uint64_t min_ns;
	uint64_t max_ns;
	uint64_t sum_ns;
	uint64_t connected_ms; /* how long it took */
	struct mt_uplink_path path;
	bool has_path;
	char failure[512];
};

struct doctor {
	uv_loop_t loop;
	struct mt_mem *mem;
	struct mt_poller *poller;
	const struct mt_profile *profile;
	struct probe quic;
	struct probe tls;
	uint64_t start_ms;
	unsigned failures;
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

static void finish_probe(struct probe *p)
{
	p->running = false;
	(void)uv_timer_stop(&p->timer); /* never fails */
	if (!p->doctor->quic.running && !p->doctor->tls.running) {
		uv_stop(&p->doctor->loop);
	}
}

static void fail_probe(struct probe *p, const char *why)
{
	if (p->failure[0] == '\0') {
		(void)snprintf(p->failure, sizeof(p->failure), "%s", why); /* cut when longer */
	}
	finish_probe(p);
}

static void on_timer(uv_timer_t *timer)
{
	struct probe *p = timer->data;

	if (p->received < p->sent) {
		fail_probe(p, "the server does not answer pings");
		return;
	}
	if (mt_uplink_ping(p->uplink) < 0) {
		if (p->transport == MT_TRANSPORT_TLS) {
			finish_probe(p); /* tunnels work without */
		} else {
			fail_probe(p, "the server offers no control channel");
		}
		return;
	}
	p->sent++;
	(void)uv_timer_start(
		&p->timer, on_timer, PING_TIMEOUT_MS, 0); /* a callback is given: always 0 */
}

static void on_pong(uint64_t rtt_ns, void *user)
{
	struct probe *p = user;

	if (!p->running || p->received >= p->sent) {
		return; /* asked for by the connection itself, as a sign of life */
	}
	p->received++;
	p->sum_ns += rtt_ns;
	p->min_ns = rtt_ns < p->min_ns ? rtt_ns : p->min_ns;
	p->max_ns = rtt_ns > p->max_ns ? rtt_ns : p->max_ns;
	if (p->received == PINGS) {
		p->has_path = mt_uplink_get_path(p->uplink, &p->path) == 0;
		finish_probe(p);
		return;
	}
	(void)uv_timer_start(
		&p->timer, on_timer, PING_INTERVAL_MS, 0); /* a callback is given: always 0 */
}

static void on_state(enum mt_uplink_state state, const char *reason, void *user)
{
	struct probe *p = user;

	if (!p->running) {
		return;
	}
	if (state == MT_UPLINK_CONNECTED && !p->connected) {
		p->connected = true;
		p->connected_ms = uv_now(&p->doctor->loop) - p->doctor->start_ms;
		(void)uv_timer_start(&p->timer, on_timer, 0, 0); /* as above */
	} else if (state == MT_UPLINK_FAILED) {
		fail_probe(p, reason);
	}
}

/* What failed decides what to try next. */
static void explain_failure(struct doctor *d, const struct probe *p)
{
	const char *way = p->transport == MT_TRANSPORT_TLS ? "TCP" : "UDP";

	if (p->connected) {
		say(d, "fail", "connection", "run this again; if it persists: mytunnel ping",
			"over %s lost again: %s", way, p->failure);
	} else if (strstr(p->failure, "does not answer") != NULL) {
		say(d, "fail", "handshake",
			"on the server: sudo mytunnelctl doctor; then see that firewalls on the "
			"way let it through, or try another network",
			"nothing comes back from %s port %u of %s", way, d->profile->port,
			d->profile->host);
	} else if (strstr(p->failure, "certificate") != NULL) {
		say(d, "fail", "server", "ask the server's administrator for a new profile", "%s",
			p->failure);
	} else if (strstr(p->failure, "limit") != NULL ||
		   strstr(p->failure, "no new connections") != NULL) {
		say(d, "fail", "handshake", "on the server: mytunnelctl status", "%s", p->failure);
	} else if (strstr(p->failure, "over TCP") != NULL) {
		say(d, "fail", "handshake", "on the server: mytunnelctl get tcp.enabled", "%s",
			p->failure);
	} else {
		say(d, "fail", "identity", "on the server: mytunnelctl client list", "%s",
			p->failure);
	}
}

static void report_probe(struct doctor *d, const struct probe *p)
{
	if (!p->connected) {
		return;
	}
	say(d, "ok", "handshake", "", "%s port %u in %llu ms",
		p->transport == MT_TRANSPORT_TLS ? "TLS over TCP" : "QUIC over UDP",
		d->profile->port, (unsigned long long)p->connected_ms);
	if (p->received > 0) {
		say(d, "ok", "round trip", "", "min/avg/max %.1f/%.1f/%.1f ms over %s",
			(double)p->min_ns / 1e6, (double)p->sum_ns / p->received / 1e6,
			(double)p->max_ns / 1e6, p->transport == MT_TRANSPORT_TLS ? "TCP" : "UDP");
	}
	if (!p->has_path || p->transport == MT_TRANSPORT_TLS) {
		return;
	}
	if (p->path.datagram_max == 0) {
		say(d, "fail", "datagrams", "update the server", "the server takes none: no UDP");
	} else {
		say(d, "ok", "datagrams", "", "UDP payloads of up to about %zu bytes fit",
			p->path.datagram_max > 20 ? p->path.datagram_max - 20 : 0);
	}
	if (p->path.udp_payload < SMALL_PAYLOAD) {
		say(d, "warn", "path MTU", "see whether another tunnel or PPPoE is on the way",
			"packets of %zu bytes pass, larger ones do not: more work for each byte",
			p->path.udp_payload);
	} else {
		say(d, "ok", "path MTU", "", "packets of %zu bytes pass", p->path.udp_payload);
	}
}

static bool works(const struct probe *p)
{
	return p->uplink != NULL && p->connected && p->failure[0] == '\0';
}

/* One way that works is enough: then the other one is worth a warning and no more. */
static void report(struct doctor *d)
{
	const struct probe *quic = &d->quic;
	const struct probe *tls = &d->tls;

	if (quic->connected || tls->connected) {
		say(d, "ok", "server", "",
			d->profile->pin_count > 0 ? "its certificate matches the profile's pin"
						  : "its certificate is trusted by this system");
	}
	if (quic->received > 0 || tls->received > 0) {
		say(d, "ok", "identity", "", "the server accepts this client");
	}
	report_probe(d, quic);
	report_probe(d, tls);
	if (works(tls) && quic->failure[0] != '\0') {
		say(d, "warn", "UDP",
			"nothing has to be done; if no network lets UDP through, see the server's "
			"own firewall",
			"UDP port %u is blocked on the way (%s): tunnels go over TLS instead, "
			"which is slower where packets get lost",
			d->profile->port, quic->failure);
	} else if (quic->failure[0] != '\0') {
		explain_failure(d, quic);
	}
	if (works(quic) && tls->failure[0] != '\0') {
		say(d, "warn", "TLS over TCP",
			"on the server: mytunnelctl get tcp.enabled; then see that firewalls let "
			"TCP through",
			"%s: this client would be cut off on networks that block UDP",
			tls->failure);
	} else if (tls->failure[0] != '\0') {
		explain_failure(d, tls);
	}
}

static int start_probe(struct doctor *d, struct probe *p, enum mt_transport transport)
{
	struct mt_uplink_config config = {
		.loop = &d->loop,
		.mem = d->mem,
		.poller = d->poller,
		.profile = d->profile,
		.choice = transport == MT_TRANSPORT_TLS ? MT_CHOICE_TLS : MT_CHOICE_QUIC,
		.persistent = false,
		.on_state = on_state,
		.on_pong = on_pong,
		.user = p,
	};
	int err;

	*p = (struct probe){.doctor = d, .transport = transport, .min_ns = UINT64_MAX};
	err = mt_uplink_new(&p->uplink, &config);
	if (err < 0) {
		return err;
	}
	(void)uv_timer_init(&d->loop, &p->timer); /* timers cannot fail to be set up */
	p->timer.data = p;
	p->running = true;
	return 0;
}

static int start(struct doctor *d, enum mt_choice choice)
{
	int err;

	d->mem = mt_mem_new();
	if (d->mem == NULL) {
		return -ENOMEM;
	}
	err = mt_poller_new(&d->poller, &d->loop);
	if (err < 0) {
		return err;
	}
	d->start_ms = uv_now(&d->loop);
	if (choice != MT_CHOICE_TLS) {
		err = start_probe(d, &d->quic, MT_TRANSPORT_QUIC);
	}
	if (err == 0 && choice != MT_CHOICE_QUIC) {
		err = start_probe(d, &d->tls, MT_TRANSPORT_TLS);
	}
	return err;
}

static void stop_probe(struct probe *p)
{
	if (p->uplink != NULL) {
		p->running = false;
		mt_uplink_free(p->uplink);
		uv_close((uv_handle_t *)&p->timer, NULL);
	}
}

static void finish(struct doctor *d)
{
	int busy;

	stop_probe(&d->quic);
	stop_probe(&d->tls);
	if (d->poller != NULL) {
		mt_poller_free(d->poller);
	}
	(void)uv_run(&d->loop, UV_RUN_DEFAULT); /* until all handles are closed */
	busy = uv_loop_close(&d->loop);
	(void)busy; /* the process ends */
	mt_mem_free(d->mem);
}

static int examine(const struct mt_profile *profile, enum mt_choice choice)
{
	struct doctor d = {.profile = profile};
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
	if (err == 0) {
		err = start(&d, choice);
		if (err == 0) {
			(void)uv_run(&d.loop, UV_RUN_DEFAULT); /* stopped by uv_stop */
			report(&d);
		}
		finish(&d);
	}
	if (err < 0) {
		mt_say("cannot start (%s)", mt_strerror(err));
		return MT_EXIT_FAILED;
	}
	return d.failures == 0 && fflush(stdout) == 0 ? MT_EXIT_OK : MT_EXIT_FAILED;
}

static int parse_options(enum mt_choice *choice, int argc, char **argv, bool *helped)
{
	static const struct option options[] = {
		{"transport", required_argument, NULL, 't'}, {"help", no_argument, NULL, 'h'}, {0}};
	int option;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (option) {
		case 't':
			if (!mt_choice_parse(choice, optarg)) {
				return mt_verb_usage_error(&mt_verb_doctor, MT_CHOICE_USAGE);
			}
			break;
		case 'h': *helped = true; return mt_verb_print_help(&mt_verb_doctor);
		default: return mt_verb_usage_error(&mt_verb_doctor, "the option is not known");
		}
	}
	return MT_EXIT_OK;
}

static int run(int argc, char **argv)
{
	struct mt_profile profile;
	char warning[MT_WHY_MAX];
	char why[MT_WHY_MAX];
	enum mt_choice choice = MT_CHOICE_AUTO;
	bool helped = false;
	int status = parse_options(&choice, argc, argv, &helped);

	if (status != MT_EXIT_OK || helped) {
		return status;
	}
	if (optind + 1 != argc) {
		return mt_verb_usage_error(&mt_verb_doctor, "exactly one PROFILE is needed");
	}
	if (mt_profile_load(&profile, argv[optind], stdin, warning, why) < 0) {
		printf("fail  %-10s  %s\n", "profile", why);
		return MT_EXIT_FAILED;
	}
	if (warning[0] != '\0') {
		printf("warn  %-10s  %s\n", "profile", warning);
	}
	status = examine(&profile, choice);
	mt_profile_deinit(&profile);
	return status;
}

const struct mt_verb mt_verb_doctor = {
	.name = "doctor",
	.run = run,
	.summary = "check the way to the server, step by step",
	.help = help,
};
