// Package v20170312 stands in for the SDK of one cloud, which flannel's backend "tencent-vpc" calls.
//
// The clusters built from here use "vxlan" or "host-gw". The SDK's versions that flannel asks for are not in the public
// module proxy, and its generated code takes longer to compile than flannel itself. Whoever configures that backend is
// told that it is not in this build.
package v20170312

import "errors"

var errNotInThisBuild = errors.New("flanneld was built without its backend tencent-vpc")

type Client struct{}

func NewClientWithSecretId(string, string, string) (*Client, error) { return &Client{}, nil }

func (*Client) DescribeRouteTables(*DescribeRouteTablesRequest) (*DescribeRouteTablesResponse, error) {
	return nil, errNotInThisBuild
}

func (*Client) DeleteRoutes(*RoutesRequest) (*RoutesResponse, error) { return nil, errNotInThisBuild }

func (*Client) CreateRoutes(*RoutesRequest) (*RoutesResponse, error) { return nil, errNotInThisBuild }

type Filter struct {
	Name   *string
	Values []*string
}

type DescribeRouteTablesRequest struct{ Filters []*Filter }

type DescribeRouteTablesResponse struct {
	Response *struct{ RouteTableSet []*RouteTable }
}

type RouteTable struct {
	RouteTableId *string
	RouteSet     []*Route
}

type Route struct {
	DestinationCidrBlock *string
	GatewayType          *string
	GatewayId            *string
	RouteId              *uint64
	RouteType            *string
	Enabled              *bool
}

type RoutesRequest struct {
	RouteTableId *string
	Routes       []*Route
}

type RoutesResponse struct{}

func NewDescribeRouteTablesRequest() *DescribeRouteTablesRequest { return &DescribeRouteTablesRequest{} }

func NewDeleteRoutesRequest() *RoutesRequest { return &RoutesRequest{} }

func NewCreateRoutesRequest() *RoutesRequest { return &RoutesRequest{} }
