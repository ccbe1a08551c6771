package cli

import "reagent/protocol"

func revoke() Command {
	return privilege("revoke", "Take a right on a device from a user", protocol.StudioRevokePrivilege)
}
