#include "tests/bench/lib/holder_options.h"

#include "tests/bench/lib/side.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned number(const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*text == '\0' || *end != '\0' || n > 10000000) {
		fprintf(stderr, "holder: '%s' is no number\n", text);
		exit(2);
	}
	return (unsigned)n;
}

/* Seconds with a fraction, in milliseconds. */
static unsigned seconds_ms(const char *text)
{
	char *end;
	double s = strtod(text, &end);

	if (*text == '\0' || *end != '\0' || !(s >= 0.001 && s <= 1000000)) {
		fprintf(stderr, "holder: '%s' is no time in seconds\n", text);
		exit(2);
	}
	return (unsigned)(s * 1000);
}

/* A list of rising numbers. */
static void numbers(struct holder_options *o, char *list)
{
	unsigned last = 0;

	o->counts = 0;
	for (char *rest = list, *one; (one = strsep(&rest, ",")) != NULL;) {
		unsigned n = number(one);

		if (o->counts == HOLDER_COUNTS_MAX || (o->counts > 0 && n < last)) {
			fputs("holder: the numbers of connections must rise\n", stderr);
			exit(2);
		}
		o->count[o->counts++] = last = n;
	}
}

static void usage(FILE *to)
{
	fputs("usage: holder [OPTION]... PROFILE\n"
	      "  --count N[,N]... connections to hold, one number after the other (10000)\n"
	      "  --at-once N      handshakes, and tunnels, under way at a time (64)\n"
	      "  --sockets N      UDP sockets to use (16)\n"
	      "  --keep-alive S   seconds between keep-alives, also 1.5 (15)\n"
	      "  --hold S         seconds to hold them, if they are many, twice (30)\n"
	      "  --settle S       seconds to wait before memory is looked at (5)\n"
	      "  --wait           wait for a line on standard input before each further step\n"
	      "  --idle           take only what nobody else wants of the processors\n"
	      "  --target IP:PORT an echo server: with --tunnels\n"
	      "  --tunnels        let each connection carry one tunnel\n"
	      "  --pid PID        the server's, for its memory and CPU\n"
	      "  --limit S        give up connecting after so long (600)\n"
	      "example: holder --count 10000 --pid $(pidof mytunneld) laptop.uri\n",
		to);
}

void holder_options_parse(struct holder_options *o, int argc, char **argv)
{
	static const struct option known[] = {{"count", 1, NULL, 'c'}, {"at-once", 1, NULL, 'a'},
		{"sockets", 1, NULL, 's'}, {"keep-alive", 1, NULL, 'k'}, {"hold", 1, NULL, 'h'},
		{"settle", 1, NULL, 'w'}, {"target", 1, NULL, 't'}, {"tunnels", 0, NULL, 'T'},
		{"pid", 1, NULL, 'P'}, {"limit", 1, NULL, 'l'}, {"wait", 0, NULL, 'W'},
		{"idle", 0, NULL, 'i'}, {"help", 0, NULL, 'H'}, {NULL, 0, NULL, 0}};
	int c;

	*o = (struct holder_options){.count = {10000},
		.counts = 1,
		.at_once = 64,
		.sockets = 16,
		.keep_alive_ms = 15000,
		.hold_s = 30,
		.settle_s = 5,
		.limit_s = 600};
	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 'c': numbers(o, optarg); break;
		case 'a': o->at_once = number(optarg); break;
		case 's': o->sockets = number(optarg); break;
		case 'k': o->keep_alive_ms = seconds_ms(optarg); break;
		case 'h': o->hold_s = number(optarg); break;
		case 'w': o->settle_s = number(optarg); break;
		case 'l': o->limit_s = number(optarg); break;
		case 'T': o->tunnels = true; break;
		case 'i': o->idle = true; break;
		case 'W': o->wait = true; break;
		case 'P': o->pid = (pid_t)number(optarg); break;
		case 't':
			o->has_target = mt_addr_parse(&o->target, optarg) == 0;
			if (!o->has_target) {
				fprintf(stderr, "holder: '%s' is no IP:PORT\n", optarg);
				exit(2);
			}
			break;
		case 'H': usage(stdout); exit(0);
		default: usage(stderr); exit(2);
		}
	}
	if (optind + 1 != argc || o->sockets == 0 || o->sockets > BENCH_SOCKETS_MAX ||
		o->at_once == 0) {
		usage(stderr);
		exit(2);
	}
	o->profile = argv[optind];
}
