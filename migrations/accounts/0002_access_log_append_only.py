"""The access log is append-only in the database itself, whoever connects.

UPDATE and DELETE are refused always. TRUNCATE is refused except in a test database (name test_...), which Django's test runner
empties between transactional tests; `SET tissueboard.refuse_truncate = 'on'` refuses it there too.
"""

from django.db import migrations

FORWARDS = """
CREATE FUNCTION accounts_accesslog_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' AND current_database() LIKE 'test\\_%'
       AND coalesce(current_setting('tissueboard.refuse_truncate', true), '') <> 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'The access log is append-only: % is refused.', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER access_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON accounts_accesslog
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_accesslog_append_only();
"""
BACKWARDS = """
DROP TRIGGER access_log_append_only ON accounts_accesslog;
DROP FUNCTION accounts_accesslog_append_only();
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]
    operations = [migrations.RunSQL(FORWARDS, BACKWARDS)]
