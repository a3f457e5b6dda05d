/* Why there is no connection to the server, in words, and whether trying again may help. */
#pragma once

#include "proto/io/tls_socket.h"
#include "proto/quic/conn.h"

#include <stdbool.h>

struct mt_reason {
	bool permanent; /* only a new profile, or the server's administrator, can help */
	bool crowded;   /* a limit: trying again helps, but not at once */
	char text[384]; /* one phrase without a final stop; a permanent one says what to do next */
};

void mt_reason_from_end(struct mt_reason *out, const struct mt_conn_end *end);
/* Of a TLS connection over TCP that has failed. */
void mt_reason_from_tls(struct mt_reason *out, const struct mt_tls_socket *socket);
/* From the application code with which the server closes (enum mt_app_code). */
void mt_reason_from_code(struct mt_reason *out, uint64_t code);
/* From an error of the system or of the project; never permanent. `what` says what was tried. */
void mt_reason_from_error(struct mt_reason *out, const char *what, int err);
