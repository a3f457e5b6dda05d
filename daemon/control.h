/* The control socket: local peers send lines of JSON (proto/wire/message.h) and get a line back for
 * each. Control thread. */
#pragma once

#include "daemon/appliance.h"
#include "proto/wire/err.h"

#include <jansson.h>
#include <stddef.h>
#include <sys/types.h>
#include <uv.h>

#define MT_CONTROL_PEERS_MAX   64    /* connections at once */
#define MT_CONTROL_READERS_MAX 48    /* of those, from peers with reading rights alone */
#define MT_CONTROL_REQUEST_MS  5000  /* to send a request, and to take an answer */
#define MT_CONTROL_ANSWER_MS   30000 /* for the daemon to have an answer */

enum mt_rights {
	MT_RIGHTS_NONE,
	MT_RIGHTS_READ,  /* group mytunnel-read */
	MT_RIGHTS_ADMIN, /* root, the daemon's own user, group mytunnel */
};

struct mt_control;

/* An answer that is owed to a peer, who may be gone by the time it is given. Each reply is answered
 * exactly once. */
struct mt_reply;
/* A verb that changes something is recorded in the audit trail by its result (daemon/audit.h).
 * Takes `result`; NULL stands for an answer that could not be built for want of memory. */
void mt_reply_result(struct mt_reply *reply, json_t *result);
/* `code` is a word for programs; see message.h for `message` and `next`. */
void mt_reply_error(
	struct mt_reply *reply, const char *code, const char *message, const char *next);
/* The same although the change has been made: it is recorded like a success. Takes `result`, which
 * may be NULL. */
void mt_reply_made(struct mt_reply *reply, json_t *result, const char *code, const char *message,
	const char *next);
/* The same with a code that fits `err`. */
void mt_reply_failure(struct mt_reply *reply, int err, const char *message, const char *next);
/* For an answer that may be long in coming: `gone` is called, once, when the peer has left; it
 * still answers the reply, which nobody hears then. */
void mt_reply_on_gone(
	struct mt_reply *reply, void (*gone)(struct mt_reply *reply, void *user), void *user);
/* Who asked, by the kernel's word. */
uid_t mt_reply_uid(const struct mt_reply *reply);

/* Binds DIR/control.sock with mode 0666 and listens. DIR is made with mode 0755 when it is missing.
 * A socket that nobody serves any more is replaced, one in use gives MT_E_BUSY. Must run before
 * other threads start, since it sets the umask for a moment.
 */
int mt_control_open(struct mt_control **out, uv_loop_t *loop, const char *dir,
	struct mt_appliance *appliance, char *why, size_t why_cap) MT_MUST_CHECK;
/* Closes the socket, removes its file, cuts every peer. The loop must then run until it is empty,
 * before mt_control_free. */
void mt_control_close(struct mt_control *control);
void mt_control_free(struct mt_control *control); /* NULL is allowed */
