#include "daemon/verbs.h"

#include <string.h>

/* Reading verbs are an allow-list: whatever is added needs full rights unless somebody writes
 * otherwise here. */
static const struct mt_verb table[] = {
	{"status", MT_RIGHTS_READ, mt_verb_status},
	{"stats", MT_RIGHTS_READ, mt_verb_stats},
	{"version", MT_RIGHTS_READ, mt_verb_version},
	{"connections", MT_RIGHTS_READ, mt_verb_connections},
	{"events", MT_RIGHTS_READ, mt_verb_events},
	{"get", MT_RIGHTS_READ, mt_verb_get},
	{"describe", MT_RIGHTS_READ, mt_verb_describe},
	{"client.list", MT_RIGHTS_READ, mt_verb_client_list},
	{"access.list", MT_RIGHTS_READ, mt_verb_access_list},
	{"access.test", MT_RIGHTS_READ, mt_verb_access_test},
	{"client.show", MT_RIGHTS_READ, mt_verb_client_show},
	{"cert.show", MT_RIGHTS_READ, mt_verb_cert_show},
	{"audit", MT_RIGHTS_READ, mt_verb_audit},
	{"doctor", MT_RIGHTS_READ, mt_verb_doctor},
	{"set", MT_RIGHTS_ADMIN, mt_verb_set},
	{"reset", MT_RIGHTS_ADMIN, mt_verb_reset},
	{"confirm", MT_RIGHTS_ADMIN, mt_verb_confirm},
	{"client.add", MT_RIGHTS_ADMIN, mt_verb_client_add},
	{"client.set", MT_RIGHTS_ADMIN, mt_verb_client_set},
	{"client.disable", MT_RIGHTS_ADMIN, mt_verb_client_disable},
	{"client.enable", MT_RIGHTS_ADMIN, mt_verb_client_enable},
	{"client.kick", MT_RIGHTS_ADMIN, mt_verb_client_kick},
	{"client.revoke", MT_RIGHTS_ADMIN, mt_verb_client_revoke},
	{"client.remove", MT_RIGHTS_ADMIN, mt_verb_client_remove},
	{"access.add", MT_RIGHTS_ADMIN, mt_verb_access_add},
	{"access.remove", MT_RIGHTS_ADMIN, mt_verb_access_remove},
	{"cert.import", MT_RIGHTS_ADMIN, mt_verb_cert_import},
	{"cert.renew", MT_RIGHTS_ADMIN, mt_verb_cert_renew},
	{"token.create", MT_RIGHTS_ADMIN, mt_verb_token_create},
	{"token.remove", MT_RIGHTS_ADMIN, mt_verb_token_remove},
	{"kick", MT_RIGHTS_ADMIN, mt_verb_kick},
	{"backup", MT_RIGHTS_ADMIN, mt_verb_backup},
	{"restore.begin", MT_RIGHTS_ADMIN, mt_verb_restore_begin},
	{"restore.part", MT_RIGHTS_ADMIN, mt_verb_restore_part},
	{"restore.finish", MT_RIGHTS_ADMIN, mt_verb_restore_finish},
	{"drain", MT_RIGHTS_ADMIN, mt_verb_drain},
	{"trace.start", MT_RIGHTS_ADMIN, mt_verb_trace_start},
	{"trace.read", MT_RIGHTS_ADMIN, mt_verb_trace_read},
	{"trace.stop", MT_RIGHTS_ADMIN, mt_verb_trace_stop},
	{"trace.list", MT_RIGHTS_ADMIN, mt_verb_trace_list},
};

#define COUNT (sizeof(table) / sizeof(table[0]))

const struct mt_verb *mt_verbs_table(size_t *count)
{
	*count = COUNT;
	return table;
}

const struct mt_verb *mt_verb_find(const char *name)
{
	for (size_t i = 0; i < COUNT; i++) {
		if (strcmp(table[i].name, name) == 0) {
			return &table[i];
		}
	}
	return NULL;
}
