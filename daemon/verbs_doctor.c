#include "daemon/doctor.h"
#include "daemon/verbs.h"
#include "daemon/worker.h"

#include <stdlib.h>

struct visit {
	struct mt_appliance *appliance;
	struct mt_reply *reply;
	struct mt_doctor_sockets of[MT_WORKERS_MAX];
};

static void visit_one(struct mt_worker *w, unsigned index, void *user)
{
	struct visit *v = user;

	mt_worker_sockets_health(w, &v->of[index].messages, &v->of[index].gso_fallbacks);
}

static void visited(void *user, bool cancelled)
{
	struct visit *v = user;
	struct mt_doctor_sockets sum = {0};

	for (size_t i = 0; i < MT_WORKERS_MAX; i++) {
		sum.messages += v->of[i].messages;
		sum.gso_fallbacks += v->of[i].gso_fallbacks;
	}
	if (cancelled) {
		mt_reply_error(v->reply, "stopping", "the daemon is stopping", "");
	} else {
		mt_reply_result(v->reply,
			json_pack("{s:o}", "checks", mt_doctor_checks(v->appliance, &sum)));
	}
	free(v);
}

void mt_verb_doctor(struct mt_appliance *a, json_t *args, struct mt_reply *reply)
{
	static const struct mt_round_ops ops = {.work = visit_one, .done = visited};
	struct visit *v = calloc(1, sizeof(*v));

	(void)args;
	if (v == NULL) {
		mt_reply_result(reply, NULL);
		return;
	}
	v->appliance = a;
	v->reply = reply;
	if (mt_appliance_ask(a, -1, &ops, v) != 0) {
		free(v);
		mt_reply_result(reply, NULL);
	}
}
