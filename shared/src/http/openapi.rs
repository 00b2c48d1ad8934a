//! What the OpenAPI descriptions of both services have in common.

use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{HeaderBuilder, ObjectBuilder, Ref, RefOr, Response as ResponseDoc, ResponseBuilder, Type};
use utoipa::{Modify, OpenApi};

use super::operations::OperationsApi;

/// Adds the paths for operators, and what every answer has: its request id, and the shape of problems.
pub struct CommonParts;

impl Modify for CommonParts {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        openapi.merge(OperationsApi::openapi());
        for item in openapi.paths.paths.values_mut() {
            for operation in [&mut item.get, &mut item.post, &mut item.delete].into_iter().flatten() {
                complete(operation);
            }
        }
    }
}

fn complete(operation: &mut Operation) {
    let every_path =
        [("405", "The path does not take this method; `Allow` names those it takes."), ("500", "An internal error.")];
    let responses = &mut operation.responses.responses;
    for (status, description) in every_path {
        let response = ResponseBuilder::new().description(description).build();
        responses.insert(status.to_owned(), RefOr::T(response));
    }
    for (status, response) in responses {
        if let RefOr::T(response) = response {
            describe(status, response);
        }
    }
}

fn describe(status: &str, response: &mut ResponseDoc) {
    let header = |description: &str, kind: Type| {
        let schema = ObjectBuilder::new().schema_type(kind).build();
        RefOr::T(HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build())
    };
    response.headers.insert("X-Request-Id".to_owned(), header("Names the request in logs.", Type::String));
    if status == "405" {
        response.headers.insert("Allow".to_owned(), header("The methods that the path takes.", Type::String));
    }
    // Health reports have a shape of their own, also when they say no.
    if status < "400" || !response.content.is_empty() {
        return;
    }
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    response.content.insert("application/problem+json".to_owned(), RefOr::T(problem));
    if ["429", "503"].contains(&status) {
        response.headers.insert("Retry-After".to_owned(), header("Seconds until a retry makes sense.", Type::Integer));
    }
}
