"""The check of the ops port: its token can be read, and it is not open by mistake."""

from meshnode.accounts import ops_token
from meshnode.errors import Refused
from meshnode.ops.checks import Context, Finding, Level, check
from meshnode.ops.exposure import REMEDY, open_to_others


@check("ops-port", "the ops port, if there is one, has a token or is local")
async def ops_port(context: Context) -> list[Finding]:
    ops = context.region.ops
    if ops is None:
        return []
    warning = open_to_others(ops)
    if warning:
        return [context.finding("ops-port", Level.WARN, str(ops), warning, REMEDY)]
    try:
        ops_token(ops, context.region.name)
    except Refused as error:
        # The node refuses to start on it; who examines from elsewhere need not have the token.
        return [context.finding("ops-port", Level.WARN, str(ops), error.what, error.remedy)]
    return []
