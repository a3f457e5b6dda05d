/* links: tests/bench/lib/load_net.c tests/bench/lib/load_target.c tests/bench/lib/load_bulk.c
 * tests/bench/lib/load_tunnels.c tests/bench/lib/load_udp.c tests/bench/lib/watch.c
 */
/* The load that every contestant of a comparison gets, over SOCKS5 or directly, and the target that
 * it goes to: one process, so that both ends of the way are counted at the same moments. Prints a
 * line of JSON: what went through while the window was open, and the CPU that the processes named
 * by --cpu took meanwhile.
 */
#include "tests/bench/lib/load.h"

#include "tests/bench/lib/watch.h"

#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define GROUPS_MAX    4
#define PROCESSES_MAX 16
#define PATIENCE_MS   20000 /* for what a busy machine delays */

/* Processes whose CPU is told as one figure. */
struct group {
	char name[32];
	pid_t pids[PROCESSES_MAX];
	size_t count;
};

struct options {
	double warm_s;
	double seconds;
	struct group groups[GROUPS_MAX];
	size_t group_count;
};

/* Everything that is counted, at one moment. */
struct sample {
	uint64_t at_ns;
	uint64_t units;
	double cpu_s[GROUPS_MAX];
	double load_s;
	double target_s;
};

static void usage(FILE *to)
{
	fputs("usage: load down|up|tunnels|trips|udp [OPTION]...\n"
	      "  --socks PORT[,PORT]...  SOCKS5 proxies on 127.0.0.1, taken in turn (none: "
	      "directly)\n"
	      "  --streams N       streams, or tunnels, at once (1)\n"
	      "  --window N        datagrams on their way (32)\n"
	      "  --rate N          datagrams per second instead of a window\n"
	      "  --size N          bytes of a datagram (1000)\n"
	      "  --warm S          seconds before the window opens (0.2)\n"
	      "  --seconds S       seconds that are measured (1)\n"
	      "  --copy            read bulk bytes into memory; without, the kernel drops them\n"
	      "  --cpu NAME=PID[,PID]...  tell their CPU under this name\n"
	      "example: load down --socks 1080 --cpu server=123 --cpu client=456\n",
		to);
}

static _Noreturn void misuse(const char *what, const char *text)
{
	fprintf(stderr, "load: %s: '%s'\n", what, text);
	exit(2);
}

static double number(const char *text, char **end, double least, double most)
{
	double n;

	errno = 0;
	n = strtod(text, end);
	if (*end == text || errno != 0 || !(n >= least && n <= most)) {
		misuse("no such number here", text);
	}
	return n;
}

static double whole(const char *text, double least, double most)
{
	char *end;
	double n = number(text, &end, least, most);

	if (*end != '\0') {
		misuse("no number", text);
	}
	return n;
}

static void parse_proxies(struct load *l, const char *text)
{
	char *end;

	for (;;) {
		if (l->proxy_count == LOAD_PROXIES_MAX) {
			misuse("too many proxies", text);
		}
		l->proxies[l->proxy_count++] = (in_port_t)number(text, &end, 1, 65535);
		if (*end != ',') {
			break;
		}
		text = end + 1;
	}
	if (*end != '\0') {
		misuse("no port", text);
	}
}

static void parse_group(struct options *o, const char *text)
{
	struct group *g = &o->groups[o->group_count];
	const char *equals = strchr(text, '=');
	char *end;

	if (o->group_count == GROUPS_MAX || equals == NULL ||
		(size_t)(equals - text) >= sizeof(g->name)) {
		misuse("no NAME=PID", text);
	}
	memcpy(g->name, text, (size_t)(equals - text));
	do {
		if (g->count == PROCESSES_MAX) {
			misuse("too many processes", text);
		}
		g->pids[g->count++] = (pid_t)number(equals + 1, &end, 1, 1 << 30);
		equals = end;
	} while (*end == ',');
	if (*end != '\0') {
		misuse("no NAME=PID", text);
	}
	o->group_count++;
}

static void parse_work(struct load *l, const char *name)
{
	static const char *const names[] = {"down", "up", "tunnels", "trips", "udp"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(name, names[i]) == 0) {
			l->work = (enum load_work)i;
			return;
		}
	}
	misuse("no such work", name);
}

static void parse(struct options *o, struct load *l, int argc, char **argv)
{
	static const struct option known[] = {{"socks", 1, NULL, 's'}, {"streams", 1, NULL, 'n'},
		{"window", 1, NULL, 'w'}, {"rate", 1, NULL, 'r'}, {"size", 1, NULL, 'z'},
		{"warm", 1, NULL, 'W'}, {"seconds", 1, NULL, 't'}, {"copy", 0, NULL, 'c'},
		{"cpu", 1, NULL, 'p'}, {"help", 0, NULL, 'h'}, {NULL, 0, NULL, 0}};
	int c;

	*o = (struct options){.warm_s = 0.2, .seconds = 1};
	*l = (struct load){.streams = 1, .window = 32, .size = 1000};
	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 's': parse_proxies(l, optarg); break;
		case 'n': l->streams = (unsigned)whole(optarg, 1, 10000); break;
		case 'w': l->window = (unsigned)whole(optarg, 1, 10000); break;
		case 'r': l->rate = (unsigned)whole(optarg, 1, 1e7); break;
		case 'z': l->size = (size_t)whole(optarg, 16, LOAD_DATAGRAM_MAX); break;
		case 'W': o->warm_s = whole(optarg, 0, 60); break;
		case 't': o->seconds = whole(optarg, 0.01, 600); break;
		case 'c': l->copy = true; break;
		case 'p': parse_group(o, optarg); break;
		case 'h': usage(stdout); exit(0);
		default: usage(stderr); exit(2);
		}
	}
	if (optind + 1 != argc) {
		usage(stderr);
		exit(2);
	}
	parse_work(l, argv[optind]);
}

static double thread_cpu_s(pthread_t thread)
{
	struct timespec t = {0};
	clockid_t clock;

	if (pthread_getcpuclockid(thread, &clock) != 0 || clock_gettime(clock, &t) != 0) {
		load_die("a thread's clock");
	}
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct sample take_sample(
	const struct options *o, const struct load *l, pthread_t load, pthread_t target)
{
	struct sample s = {.at_ns = load_now_ns(), .units = l->units};

	for (size_t i = 0; i < o->group_count; i++) {
		for (size_t k = 0; k < o->groups[i].count; k++) {
			s.cpu_s[i] += bench_usage(o->groups[i].pids[k]).cpu_s;
		}
	}
	s.load_s = thread_cpu_s(load);
	s.target_s = thread_cpu_s(target);
	return s;
}

static void wait_s(double seconds)
{
	struct timespec t = {.tv_sec = (time_t)seconds};

	t.tv_nsec = (long)((seconds - (double)t.tv_sec) * 1e9);
	while (nanosleep(&t, &t) != 0 && errno == EINTR) {
	}
}

/* The window stays open for at least one unit. */
static void wait_for_one(const struct load *l, const struct sample *from)
{
	for (int i = 0; i < PATIENCE_MS && l->units == from->units; i++) {
		wait_s(0.001);
	}
}

static int by_value(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void say(
	const struct options *o, struct load *l, const struct sample *from, const struct sample *to)
{
	size_t n = l->latency_count;

	printf("{\"seconds\":%.6f,\"units\":%llu,\"failed\":%llu",
		(double)(to->at_ns - from->at_ns) / 1e9,
		(unsigned long long)(to->units - from->units), (unsigned long long)l->failed);
	if (l->work == LOAD_UDP) {
		printf(",\"sent\":%llu,\"returned\":%llu", (unsigned long long)l->sent,
			(unsigned long long)l->units);
	}
	if (n > 0) {
		qsort(l->latencies_us, n, sizeof(*l->latencies_us), by_value);
		printf(",\"p50_us\":%.2f,\"p99_us\":%.2f", (double)l->latencies_us[n / 2],
			(double)l->latencies_us[n * 99 / 100]);
	}
	printf(",\"cpu_s\":{\"load\":%.6f,\"target\":%.6f", to->load_s - from->load_s,
		to->target_s - from->target_s);
	for (size_t i = 0; i < o->group_count; i++) {
		printf(",\"%s\":%.6f", o->groups[i].name, to->cpu_s[i] - from->cpu_s[i]);
	}
	printf("},\"rss_kib\":{");
	for (size_t i = 0; i < o->group_count; i++) {
		uint64_t rss = 0;

		for (size_t k = 0; k < o->groups[i].count; k++) {
			rss += bench_usage(o->groups[i].pids[k]).rss_bytes;
		}
		printf("%s\"%s\":%llu", i > 0 ? "," : "", o->groups[i].name,
			(unsigned long long)(rss / 1024));
	}
	printf("}}\n");
}

int main(int argc, char **argv)
{
	static void *(*const runs[])(void *) = {
		load_run_bulk, load_run_bulk, load_run_tunnels, load_run_trips, load_run_udp};
	static struct load l;
	struct options o;
	struct sample from, to;
	pthread_t load, target;

	parse(&o, &l, argc, argv);
	l.latencies_us = calloc(LOAD_LATENCIES_MAX, sizeof(*l.latencies_us));
	if (l.latencies_us == NULL) {
		load_die("latencies");
	}
	load_target_start(&l);
	if (pthread_create(&target, NULL, load_target_run, &l) != 0 ||
		pthread_create(&load, NULL, runs[l.work], &l) != 0) {
		load_die("threads");
	}
	while (!l.ready) { /* a stream that cannot be opened ends the program */
		wait_s(0.001);
	}
	wait_s(o.warm_s);
	l.timed = true;
	from = take_sample(&o, &l, load, target);
	wait_s(o.seconds);
	wait_for_one(&l, &from);
	to = take_sample(&o, &l, load, target);
	l.timed = false;
	l.stop = true;
	pthread_join(load, NULL);
	l.over = true;
	pthread_join(target, NULL);
	say(&o, &l, &from, &to);
	free(l.latencies_us);
	return 0;
}
