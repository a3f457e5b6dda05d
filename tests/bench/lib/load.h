/* What the load generator's files share: what to measure, and what was counted. */
#pragma once

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define LOAD_PROXIES_MAX   16
#define LOAD_PIECE_BYTES   262144u
#define LOAD_EXCHANGE      1024u /* bytes each way of a new tunnel */
#define LOAD_DATAGRAM_MAX  1400
#define LOAD_LATENCIES_MAX (1u << 22)

enum load_work {
	LOAD_DOWN,
	LOAD_UP,
	LOAD_TUNNELS,
	LOAD_TRIPS,
	LOAD_UDP,
};

/* One run. The working thread writes the counters, the main thread reads them at the beginning and
 * the end of the window that is measured. */
struct load {
	enum load_work work;
	in_port_t
		proxies[LOAD_PROXIES_MAX]; /* SOCKS5 on 127.0.0.1, taken in turn; none: directly */
	size_t proxy_count;
	unsigned streams; /* at once */
	unsigned window;  /* datagrams on their way */
	unsigned rate;    /* datagrams per second, instead of the window; 0: none */
	size_t size;      /* bytes of a datagram's payload */
	bool copy;        /* bulk bytes are read into memory, not dropped by the kernel */
	in_port_t target;
	_Atomic bool ready; /* all streams are open */
	_Atomic bool stop;  /* the load is to end */
	_Atomic bool over;  /* the target, too */
	_Atomic bool timed; /* latencies are kept */
	_Atomic uint64_t units;
	_Atomic uint64_t failed;
	_Atomic uint64_t sent; /* datagrams */
	float *latencies_us;
	_Atomic size_t latency_count;
};

_Noreturn void load_die(const char *what);
uint64_t load_now_ns(void);
void load_note_latency(struct load *l, uint64_t begin_ns);
struct sockaddr_in load_loopback(in_port_t port);

/* Sockets on the way to stream number `n`: connected to its proxy or to the target, blocking, with
 * timeouts. The program ends when that fails. */
int load_open_tunnel(struct load *l, unsigned n);

/* Before a socket of a bulk transfer is connected or accepted. */
void load_bound_buffer(const struct load *l, int fd);

/* SOCKS5's request for a tunnel to the target behind the greeting, for those that write it
 * themselves; returns its length. */
size_t load_socks_request(const struct load *l, uint8_t command, uint8_t buf[10]);

/* The other end of all tunnels: serves until `over`. Opens its sockets before it returns. */
void load_target_start(struct load *l);
void *load_target_run(void *load);

/* The working threads' functions, which run until `stop`. */
void *load_run_bulk(void *load);
void *load_run_tunnels(void *load);
void *load_run_trips(void *load);
void *load_run_udp(void *load);
