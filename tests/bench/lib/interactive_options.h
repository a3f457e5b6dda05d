/* The command line of tests/bench/interactive. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define INTERACTIVE_TUNNELS_MAX 1000
#define INTERACTIVE_PROXIES_MAX 1000
#define INTERACTIVE_PIDS_MAX    8
#define INTERACTIVE_MESSAGE_MAX 4096

enum bulk {
	BULK_DOWN = 'D',
	BULK_UP = 'U',
	ECHO = 'E',
};

struct interactive_options {
	unsigned proxies[INTERACTIVE_PROXIES_MAX];
	size_t proxy_count;
	unsigned bulk_proxy;
	enum bulk bulk;
	uint64_t bulk_rate; /* bytes a second; 0: as fast as it goes */
	unsigned tunnels;
	size_t bytes;
	uint64_t interval_ns;
	uint64_t phase_ns;
	unsigned rounds;
	pid_t pids[INTERACTIVE_PIDS_MAX];
	size_t pid_count;
	bool normal;   /* no real-time priority */
	int bulk_nice; /* of the bulk's own ends */
};

/* Ends the program with a word on how it is used when it is not. */
void interactive_options(struct interactive_options *o, int argc, char **argv);
