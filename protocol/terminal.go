package protocol

// TerminalEOF is what comes last on a terminal's data topic (wire §9): bytes from
// a container's shell, a text from the device's.
const TerminalEOF = "TERMINAL_EOF"

// A TerminalSession is the answer of request_terminal_session and
// init_device_terminal: where its keystrokes go, where its output comes from, and
// the procedure that tells its size.
type TerminalSession struct {
	DataTopic   string `json:"dataTopic"`
	WriteTopic  string `json:"writeTopic"`
	ResizeTopic string `json:"resizeTopic"`
	SessionID   string `json:"sessionID"`
}

// ContainerTerminal names the topics of a shell in a container (wire §9.1).
func ContainerTerminal(serial, containerName, id string) TerminalSession {
	of := "." + containerName + "." + id
	return TerminalSession{
		DataTopic:   Procedure(serial, "term_data"+of),
		WriteTopic:  Procedure(serial, "term_write"+of),
		ResizeTopic: Procedure(serial, "term_resize"+of),
		SessionID:   id,
	}
}

// DeviceTerminal names the topics of a shell of the device (wire §9.2).
func DeviceTerminal(serial, id string) TerminalSession {
	return TerminalSession{
		DataTopic:   Procedure(serial, "data."+id),
		WriteTopic:  Procedure(serial, "term_write."+id),
		ResizeTopic: Procedure(serial, "term_resize."+id),
		SessionID:   id,
	}
}
