package store

import (
	"slices"
	"strconv"
	"time"

	"reagent/persistence"
	"reagent/protocol"
)

// An Account is a user.
type Account struct {
	Key     uint64    `json:"key"`
	Name    string    `json:"name"`
	Secret  string    `json:"secret"`
	Created time.Time `json:"created"`
	// Revision changes when a right is taken away.
	Revision uint64 `json:"revision,omitempty"`
}

// AuthID is with what the account logs in (design S21).
func (a Account) AuthID() string { return strconv.FormatUint(a.Key, 10) }

// Administrator reports whether the account may do everything.
func (a Account) Administrator() bool { return a.Key == protocol.AccountAdministrator }

// A Project is a group of devices with one owner; its key is their swarm key.
type Project struct {
	Name    string    `json:"name"`
	Owner   uint64    `json:"owner"`
	Created time.Time `json:"created"`
}

// firstProject is the one that every studio has.
const firstProject uint64 = 1

// grant is what an account may do on a device.
type grant struct {
	Privileges []protocol.Privilege `json:"privileges"`
}

// A Grant is one right.
type Grant struct {
	Device    uint64
	Privilege protocol.Privilege
}

func addAccount(tx *persistence.Tx, name string) (Account, error) {
	if err := checkName("user", name); err != nil {
		return Account{}, err
	}
	key, err := accounts.Raw().Next(tx)
	if err != nil {
		return Account{}, err
	}
	if err := claim(tx, accountNames, "user", name, key); err != nil {
		return Account{}, err
	}
	a := Account{Key: key, Name: name, Secret: newSecret(), Created: now()}
	return a, accounts.Put(tx, persistence.Key(key), a)
}

// AddAccount makes an account. The answer holds its secret.
func (s *Store) AddAccount(name string) (Account, error) {
	return update(s, func(tx *persistence.Tx) (Account, error) { return addAccount(tx, name) })
}

// Account finds an account by name or key.
func (s *Store) Account(ref string) (Account, error) {
	return view(s, func(tx *persistence.Tx) (Account, error) { return findAccount(tx, ref) })
}

func findAccount(tx *persistence.Tx, ref string) (Account, error) {
	if key, ok := lookup(tx, accountNames, ref); ok {
		if a, ok := accounts.Get(tx, persistence.Key(key)); ok {
			return a, nil
		}
	}
	return Account{}, notFound("user", ref)
}

// Accounts lists all accounts.
func (s *Store) Accounts() ([]Account, error) {
	return view(s, func(tx *persistence.Tx) (all []Account, _ error) {
		for _, a := range accounts.All(tx) {
			all = append(all, a)
		}
		return all, nil
	})
}

// RemoveAccount removes an account with its rights. Its apps stay, with nobody
// but the administrator to push into them.
func (s *Store) RemoveAccount(ref string) (Account, error) {
	return update(s, func(tx *persistence.Tx) (Account, error) {
		a, err := findAccount(tx, ref)
		if err != nil {
			return a, err
		}
		if a.Administrator() {
			return a, conflict("%q is the administrator and cannot be removed", a.Name)
		}
		if err := accountNames.Delete(tx, lowerKey(a.Name)); err != nil {
			return a, err
		}
		if err := grants.In(persistence.Name(a.Key)).Raw().Remove(tx); err != nil {
			return a, err
		}
		return a, accounts.Delete(tx, persistence.Key(a.Key))
	})
}

// Grant gives an account a privilege on a device.
func (s *Store) Grant(account, device string, p protocol.Privilege) (Account, error) {
	return s.regrant(account, device, p, func(a *Account, g *grant) {
		if !slices.Contains(g.Privileges, p) {
			g.Privileges = append(g.Privileges, p)
			slices.Sort(g.Privileges)
		}
	})
}

// Revoke takes a privilege on a device away.
func (s *Store) Revoke(account, device string, p protocol.Privilege) (Account, error) {
	return s.regrant(account, device, p, func(a *Account, g *grant) {
		if i := slices.Index(g.Privileges, p); i >= 0 {
			g.Privileges = slices.Delete(g.Privileges, i, i+1)
			a.Revision++
		}
	})
}

func (s *Store) regrant(account, device string, p protocol.Privilege, change func(*Account, *grant)) (Account, error) {
	if !slices.Contains(protocol.Privileges(), p) {
		return Account{}, invalid("there is no privilege %q: use one of %v", clip(string(p)), protocol.Privileges())
	}
	return update(s, func(tx *persistence.Tx) (Account, error) {
		a, err := findAccount(tx, account)
		if err != nil {
			return a, err
		}
		d, err := findDevice(tx, device)
		if err != nil {
			return a, err
		}
		bucket, key := grants.In(persistence.Name(a.Key)), persistence.Key(d.Key)
		g, _ := bucket.Get(tx, key)
		change(&a, &g)
		if len(g.Privileges) == 0 {
			err = bucket.Delete(tx, key)
		} else {
			err = bucket.Put(tx, key, g)
		}
		if err != nil {
			return a, err
		}
		return a, accounts.Put(tx, persistence.Key(a.Key), a)
	})
}

// Grants lists the rights of an account.
func (s *Store) Grants(account uint64) ([]Grant, error) {
	return view(s, func(tx *persistence.Tx) (all []Grant, _ error) {
		for key, g := range grants.In(persistence.Name(account)).All(tx) {
			device, _ := persistence.Number(key)
			for _, p := range g.Privileges {
				all = append(all, Grant{device, p})
			}
		}
		return all, nil
	})
}

// May reports whether an account has one of the privileges on a device; with none
// given, any privilege. The administrator has all, on devices that there are.
func (s *Store) May(account, device uint64, privileges ...protocol.Privilege) bool {
	ok, err := view(s, func(tx *persistence.Tx) (bool, error) { return may(tx, account, device, privileges...), nil })
	return ok && err == nil
}

func may(tx *persistence.Tx, account, device uint64, privileges ...protocol.Privilege) bool {
	a, ok := accounts.Get(tx, persistence.Key(account))
	if !ok {
		return false
	}
	if a.Administrator() {
		_, exists := devices.Get(tx, persistence.Key(device))
		return exists
	}
	g, _ := grants.In(persistence.Name(account)).Get(tx, persistence.Key(device))
	if len(privileges) == 0 {
		return len(g.Privileges) > 0
	}
	return slices.ContainsFunc(privileges, func(p protocol.Privilege) bool { return slices.Contains(g.Privileges, p) })
}

// Readers lists the accounts that may READ a device.
func (s *Store) Readers(device uint64) ([]Account, error) {
	return view(s, func(tx *persistence.Tx) (all []Account, _ error) {
		for _, a := range accounts.All(tx) {
			if may(tx, a.Key, device, protocol.Read) {
				all = append(all, a)
			}
		}
		return all, nil
	})
}
