package agent

import (
	"context"

	"reagent/protocol"
)

// An auditQuerier reads who did what; audit.Log is one.
type auditQuerier interface {
	Query(ctx context.Context, q protocol.AuditArgs) (protocol.AuditAnswer, error)
}

func queryAudit(audit auditQuerier) func(context.Context, protocol.AuditArgs) (protocol.AuditAnswer, error) {
	return func(ctx context.Context, in protocol.AuditArgs) (protocol.AuditAnswer, error) {
		return audit.Query(ctx, in)
	}
}
