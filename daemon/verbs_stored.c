#include "daemon/verbs_stored.h"

#include "daemon/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* An answer that waits for the workers. */
struct pending {
	struct mt_reply *reply;
	json_t *result;
};

static void published(void *user, bool cancelled)
{
	struct pending *p = user;

	if (cancelled) {
		mt_reply_made(p->reply, p->result, "stopping",
			"stored, but the daemon is stopping: it is in force at the next start", "");
	} else if (p->result == NULL) {
		mt_reply_made(p->reply, NULL, "failed", "done, but out of memory for the answer",
			"mytunnelctl status");
	} else {
		mt_reply_result(p->reply, p->result);
	}
	free(p);
}

void mt_stored_publish(
	struct mt_appliance *a, struct mt_reply *reply, bool renew_tls, bool keep, json_t *result)
{
	struct pending *p = calloc(1, sizeof(*p));
	struct mt_publication next;
	char why[MT_WHY_MAX] = "out of memory";
	char message[MT_WHY_MAX + 64];
	int rv = -ENOMEM;

	if (p != NULL) {
		p->reply = reply;
		p->result = result;
		rv = mt_appliance_prepare(a, &next, &a->settings, renew_tls, why, sizeof(why));
	}
	if (rv == 0) {
		if (keep && next.snapshot->rules != a->snapshot->rules) {
			mt_rules_set_keep(next.snapshot->rules);
		}
		rv = mt_appliance_commit(a, &next, published, p);
		if (rv != 0) {
			(void)snprintf(why, sizeof(why), "the workers could not be told: %s",
				mt_strerror(rv));
		}
	}
	if (rv != 0) {
		a->behind = true;
		(void)snprintf(message, sizeof(message),
			"stored, but not yet in force: %s; it is tried again", why);
		mt_log(MT_LOG_ERROR, "publish_failed", MT_LOG_TEXT("error", why));
		free(p);
		mt_reply_made(reply, result, "failed", message,
			"mytunnelctl status, and restart the daemon if that does not help");
	}
}

static void caught_up(void *user, bool cancelled)
{
	(void)user; /* nobody waits */
	(void)cancelled;
}

void mt_stored_catch_up(struct mt_appliance *a)
{
	struct mt_publication next;
	char why[MT_WHY_MAX];
	int rv;

	if (!a->behind) {
		return;
	}
	/* The certificates too: what failed may have been theirs. */
	rv = mt_appliance_prepare(a, &next, &a->settings, true, why, sizeof(why));
	if (rv == 0) {
		rv = mt_appliance_commit(a, &next, caught_up, NULL);
	}
	a->behind = rv != 0;
	if (rv == 0) {
		mt_log(MT_LOG_INFO, "publish_caught_up");
	}
}
