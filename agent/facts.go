package agent

import (
	"reagent/agent/apps"
	"reagent/config"
)

// facts gathers what apps are made with from those who know it.
func facts(file *config.DeviceFile, learnt *learnt, boot string) apps.Facts {
	id := file.Identity()
	key, baseURL := learnt.get()
	return apps.Facts{
		Serial:          id.SerialNumber,
		DeviceKey:       id.DeviceKey,
		SwarmKey:        id.SwarmKey,
		DeviceName:      id.Name,
		SwarmName:       id.SwarmName,
		SwarmOwner:      id.SwarmOwnerName,
		EndpointURL:     id.EndpointURL,
		ApplianceDomain: id.ApplianceDomain,
		Environment:     id.Environment,
		Registry:        id.RegistryURL,
		Repository:      id.MainRepository,
		Secret:          id.Secret,
		BaseURL:         baseURL,
		CredentialKey:   key,
		Boot:            boot,
	}
}
