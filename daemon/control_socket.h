/* The file of the control socket. */
#pragma once

#include "proto/wire/err.h"

#include <stddef.h>
#include <sys/un.h>

struct mt_control_socket {
	int fd;
	struct sockaddr_un addr;
};

/* See mt_control_open. */
int mt_control_socket_open(
	struct mt_control_socket *out, const char *dir, char *why, size_t why_cap) MT_MUST_CHECK;
/* Closes it and removes the file. */
void mt_control_socket_close(struct mt_control_socket *s);
