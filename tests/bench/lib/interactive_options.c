#include "tests/bench/lib/interactive_options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND 1000000000ull

static void usage(void)
{
	fprintf(stderr,
		"interactive [options] SOCKS[,SOCKS...]\n"
		"  --bulk down|up     the bulk's direction (down)\n"
		"  --bulk-socks PORT  the bulk goes through this proxy (none)\n"
		"  --bulk-rate BITS   a second (as fast as it goes)\n"
		"  --tunnels N        with round trips, in turn by the given proxies (100)\n"
		"  --bytes N          there and back (100)\n"
		"  --interval MS      between two of a tunnel (20)\n"
		"  --seconds S        a phase (4)\n"
		"  --rounds N         of a phase without and one with bulk (3)\n"
		"  --pid PID          whose CPU is told; may be given again\n"
		"  --bulk-nice N      how far the bulk's own ends give way, up to 19 (0)\n"
		"  --normal           round trips' ends without real-time priority\n");
	exit(2);
}

static unsigned number(const char *text, unsigned max)
{
	char *end = NULL;
	unsigned long n = strtoul(text, &end, 10);

	if (end == text || *end != '\0' || n > max) {
		usage();
	}
	return (unsigned)n;
}

static uint64_t seconds(const char *text)
{
	char *end = NULL;
	double n = strtod(text, &end);

	if (end == text || *end != '\0' || !(n >= 0.01 && n <= 600)) {
		usage();
	}
	return (uint64_t)(n * (double)SECOND);
}

static void read_proxies(struct interactive_options *o, char *text)
{
	char *save = NULL;

	for (char *p = strtok_r(text, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
		if (o->proxy_count == INTERACTIVE_PROXIES_MAX) {
			usage();
		}
		o->proxies[o->proxy_count++] = number(p, UINT16_MAX);
	}
	if (o->proxy_count == 0) {
		usage();
	}
}

static void read_option(struct interactive_options *o, int c)
{
	switch (c) {
	case 'b': o->bulk = optarg[0] == 'u' ? BULK_UP : BULK_DOWN; break;
	case 'x': o->bulk_proxy = number(optarg, UINT16_MAX); break;
	case 'r': o->bulk_rate = number(optarg, UINT32_MAX) / 8; break;
	case 't': o->tunnels = number(optarg, INTERACTIVE_TUNNELS_MAX); break;
	case 's': o->bytes = number(optarg, INTERACTIVE_MESSAGE_MAX); break;
	case 'i': o->interval_ns = number(optarg, 10000) * (SECOND / 1000); break;
	case 'd': o->phase_ns = seconds(optarg); break;
	case 'o': o->rounds = number(optarg, 100); break;
	case 'p':
		if (o->pid_count < INTERACTIVE_PIDS_MAX) {
			o->pids[o->pid_count++] = (pid_t)number(optarg, INT32_MAX);
		}
		break;
	case 'n': o->normal = true; break;
	case 'N': o->bulk_nice = (int)number(optarg, 19); break;
	default: usage();
	}
}

void interactive_options(struct interactive_options *o, int argc, char **argv)
{
	static const struct option options[] = {
		{"bulk", required_argument, NULL, 'b'},
		{"bulk-socks", required_argument, NULL, 'x'},
		{"bulk-rate", required_argument, NULL, 'r'},
		{"tunnels", required_argument, NULL, 't'},
		{"bytes", required_argument, NULL, 's'},
		{"interval", required_argument, NULL, 'i'},
		{"seconds", required_argument, NULL, 'd'},
		{"rounds", required_argument, NULL, 'o'},
		{"pid", required_argument, NULL, 'p'},
		{"normal", no_argument, NULL, 'n'},
		{"bulk-nice", required_argument, NULL, 'N'},
		{NULL, 0, NULL, 0},
	};

	*o = (struct interactive_options){
		.bulk = BULK_DOWN,
		.tunnels = 100,
		.bytes = 100,
		.interval_ns = 20 * 1000000ull,
		.phase_ns = 4 * SECOND,
		.rounds = 3,
	};
	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		read_option(o, c);
	}
	if (optind + 1 != argc || o->tunnels == 0 || o->bytes == 0 || o->interval_ns == 0) {
		usage();
	}
	read_proxies(o, argv[optind]);
}
