//go:build linux

package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"capsid/guest/control"

	"golang.org/x/crypto/ssh"
)

// serveCall answers the one call of a channel.
func (s *server) serveCall(ch ssh.Channel) {
	defer ch.Close()
	var c control.Call
	raw, err := io.ReadAll(io.LimitReader(ch, control.MaxCall+1))
	if err == nil && len(raw) > control.MaxCall {
		err = fmt.Errorf("the call is larger than %d bytes", control.MaxCall)
	}
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	var a control.Answer
	if err == nil {
		a, err = s.call(c)
	}
	if err != nil {
		a = control.Answer{Error: err.Error()}
	}
	out, err := json.Marshal(a)
	if err != nil {
		return
	}
	_, _ = ch.Write(out)
	_ = ch.CloseWrite()
	if c.Call == control.CallPowerOff && a.Error == "" {
		s.powerOff()
	}
}

func (s *server) call(c control.Call) (control.Answer, error) {
	switch c.Call {
	case control.CallSetup:
		if c.Setup == nil {
			return control.Answer{}, fmt.Errorf("the call has no setup")
		}
		r, err := s.setUp(*c.Setup)
		return control.Answer{Setup: r}, err
	case control.CallClock:
		return control.Answer{}, s.clock(c.Time)
	case control.CallTerminals:
		return control.Answer{Terminals: s.terminals.list()}, nil
	case control.CallPowerOff:
		return control.Answer{}, nil
	case control.CallFreeze:
		return control.Answer{}, s.freeze()
	case control.CallThaw:
		return control.Answer{}, s.thaw()
	case control.CallRenew:
		if c.Renew == nil {
			return control.Answer{}, fmt.Errorf("the call has no identity")
		}
		return control.Answer{}, s.renewAs(*c.Renew)
	}
	return control.Answer{}, fmt.Errorf("unknown call %q", c.Call)
}

// setUp is done once. A host that has lost its first answer, as after its restart, gets the same again; one that failed may be tried again.
func (s *server) setUp(req control.Setup) (*control.SetupResult, error) {
	s.setting.Lock()
	defer s.setting.Unlock()
	if s.result != nil {
		return s.result, nil
	}
	r, user, env, err := s.setup(context.Background(), req)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.user, s.env = &user, env
	s.mu.Unlock()
	s.result = &r
	return s.result, nil
}

// renewAs gives the machine another identity, and programs that are started from now on another environment.
func (s *server) renewAs(id control.Identity) error {
	s.setting.Lock()
	defer s.setting.Unlock()
	env, err := s.renew(id)
	if err != nil {
		return err
	}
	if id.Env != nil {
		s.mu.Lock()
		s.env = env
		s.mu.Unlock()
	}
	return nil
}
