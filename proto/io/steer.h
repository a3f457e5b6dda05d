/* The classic BPF program that picks a socket of a SO_REUSEPORT group by the worker byte in our
 * connection ids. */
#pragma once

#include "proto/wire/err.h"

#include <linux/filter.h>
#include <stddef.h>
#include <stdint.h>

#define MT_STEER_MAX 32 /* instructions */

/* Fills `prog` (room for MT_STEER_MAX), returns the number of instructions. The program returns:
 * for a short header whose tag byte matches, the worker byte; for a long header with an id of our
 * length and tag, its worker byte; else a hash of the client's random id modulo `workers`; for
 * packets that are too short, an index out of range, on which the kernel falls back to its own
 * hash.
 */
size_t mt_steer_program(struct sock_filter *prog, uint8_t workers, uint8_t tag);
