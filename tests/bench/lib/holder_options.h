/* What the holder is asked for. */
#pragma once

#include "proto/wire/addr.h"

#include <stdbool.h>
#include <sys/types.h>

#define HOLDER_COUNTS_MAX 16

struct holder_options {
	unsigned count[HOLDER_COUNTS_MAX]; /* rising */
	unsigned counts;
	unsigned at_once;
	unsigned sockets;
	unsigned keep_alive_ms;
	unsigned hold_s;
	unsigned settle_s;
	unsigned limit_s;
	bool tunnels;
	bool wait;
	bool idle;
	pid_t pid;
	struct mt_addr target;
	bool has_target;
	const char *profile;
};

/* Ends the program when they make no sense, or when only help was wanted. */
void holder_options_parse(struct holder_options *out, int argc, char **argv);
