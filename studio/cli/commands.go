package cli

// commands is the table of commands, in the order in which help lists them.
func (p *Program) commands() []Command {
	return append(p.Extra[:len(p.Extra):len(p.Extra)],
		deviceAdd(), deviceList(), deviceLogs(), deviceRemove(),
		appCreate(), appPush(), appList(), appEnv(), appPorts(), appRemove(),
		devPush(), devStop(), devRemove(), publish(),
		deploy(), stop(), remove(), states(), logs(),
		openShell(), run(), audit(),
		userAdd(), userList(), userRemove(), grant(), revoke(), whoami(), collectGarbage(),
	)
}

// Hints that several commands give.
const (
	hintDevices = `see "$0 device ls"`
	hintApps    = `see "$0 app ls"`
	hintUsers   = `see "$0 user ls"`
)
