#include "daemon/control_reply.h"

#include "proto/wire/encode.h"
#include "proto/wire/message.h"

#include <stdlib.h>
#include <string.h>

static void answer(struct mt_reply *reply, char *line)
{
	void (*deliver)(void *peer, char *line) = reply->deliver;
	void *peer = reply->peer;

	json_decref(reply->args);
	json_decref(reply->before);
	free(reply);
	if (peer != NULL) {
		deliver(peer, line);
	} else if (line != NULL) {
		mt_wipe(line, strlen(line)); /* keys and profiles pass through here */
		free(line);
	}
}

void mt_reply_forsake(struct mt_reply *reply)
{
	reply->peer = NULL;
	if (reply->gone != NULL) {
		reply->gone(reply, reply->gone_user);
	}
}

void mt_reply_on_gone(
	struct mt_reply *reply, void (*gone)(struct mt_reply *reply, void *user), void *user)
{
	reply->gone = gone;
	reply->gone_user = user;
}

uid_t mt_reply_uid(const struct mt_reply *reply)
{
	return reply->actor.uid;
}

static void record(struct mt_reply *reply, const json_t *result)
{
	if (reply->change != NULL) {
		mt_audit_record(reply->appliance, &reply->actor, reply->change->name, reply->args,
			reply->before, result);
	}
}

void mt_reply_made(struct mt_reply *reply, json_t *result, const char *code, const char *message,
	const char *next)
{
	record(reply, result);
	json_decref(result);
	mt_reply_error(reply, code, message, next);
}

void mt_reply_result(struct mt_reply *reply, json_t *result)
{
	if (result != NULL) {
		record(reply, result);
	}
	answer(reply, mt_message_format_result(result));
}

void mt_reply_error(struct mt_reply *reply, const char *code, const char *message, const char *next)
{
	answer(reply, mt_message_format_error(code, message, next));
}

void mt_reply_failure(struct mt_reply *reply, int err, const char *message, const char *next)
{
	const char *code = "failed";

	switch (err) {
	case MT_E_NOT_FOUND: code = "not_found"; break;
	case MT_E_EXISTS: code = "exists"; break;
	case MT_E_MALFORMED:
	case MT_E_TOO_LONG:
	case MT_E_UNSUPPORTED:
	case MT_E_RANGE: code = "invalid"; break;
	case MT_E_STORE:
	case MT_E_CORRUPT: code = "store"; break;
	default: break;
	}
	mt_reply_error(reply, code, message, next);
}
